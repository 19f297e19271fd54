"""Tables of questions and answers: small talk, longer texts, capitals, words and lists.

The texts are in `data/*.txt`: blocks of `Q: question | question ...` followed by `A: answer`, which may span lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"


class Topic(NamedTuple):
    """Questions that mean the same, and the one answer to all of them."""

    questions: list[str]
    answer: str


def load_topics(name: str) -> list[Topic]:
    """Read the blocks of `data/{name}.txt`."""
    topics = []
    for block in (DATA / f"{name}.txt").read_text(encoding="utf-8").split("Q: ")[1:]:
        questions, answer = block.split("\nA: ", 1)
        topics.append(Topic(questions.split(" | "), answer.strip()))
    return topics


SMALL_TALK_ENGLISH = load_topics("smalltalk.en")
SMALL_TALK_CHINESE = load_topics("smalltalk.zh")
LONG_ENGLISH = load_topics("long.en")
LONG_CHINESE = load_topics("long.zh")


def _rows(text: str) -> list[list[str]]:
    """Split `a b;c d` into rows of words, where `_` stands for a space."""
    return [[cell.replace("_", " ") for cell in row.split()] for row in text.replace("\n", " ").split(";")]


# Country, capital, country in Chinese, capital in Chinese.
CAPITALS = _rows("""
France Paris 法国 巴黎;Germany Berlin 德国 柏林;Italy Rome 意大利 罗马;Spain Madrid 西班牙 马德里;Japan Tokyo 日本 东京;
China Beijing 中国 北京;England London 英国 伦敦;Russia Moscow 俄罗斯 莫斯科;India New_Delhi 印度 新德里;
Canada Ottawa 加拿大 渥太华;Australia Canberra 澳大利亚 堪培拉;Brazil Brasilia 巴西 巴西利亚;Egypt Cairo 埃及 开罗;
Greece Athens 希腊 雅典;Portugal Lisbon 葡萄牙 里斯本;Sweden Stockholm 瑞典 斯德哥尔摩;Norway Oslo 挪威 奥斯陆;
Finland Helsinki 芬兰 赫尔辛基;Denmark Copenhagen 丹麦 哥本哈根;Poland Warsaw 波兰 华沙;Austria Vienna 奥地利 维也纳;
Hungary Budapest 匈牙利 布达佩斯;Turkey Ankara 土耳其 安卡拉;Thailand Bangkok 泰国 曼谷;Vietnam Hanoi 越南 河内;
South_Korea Seoul 韩国 首尔;Mexico Mexico_City 墨西哥 墨西哥城;Argentina Buenos_Aires 阿根廷 布宜诺斯艾利斯;
Cuba Havana 古巴 哈瓦那;Kenya Nairobi 肯尼亚 内罗毕;Ireland Dublin 爱尔兰 都柏林;Belgium Brussels 比利时 布鲁塞尔;
Switzerland Bern 瑞士 伯尔尼;Iran Tehran 伊朗 德黑兰;Iraq Baghdad 伊拉克 巴格达;the_United_States Washington 美国 华盛顿;
Peru Lima 秘鲁 利马;Chile Santiago 智利 圣地亚哥;the_Netherlands Amsterdam 荷兰 阿姆斯特丹;Ukraine Kyiv 乌克兰 基辅
""")

# A word and its translation.
WORDS = _rows("""
hello 你好;water 水;cat 猫;dog 狗;book 书;sun 太阳;moon 月亮;fire 火;tree 树;flower 花;bird 鸟;fish 鱼;rice 米饭;
tea 茶;apple 苹果;friend 朋友;school 学校;teacher 老师;mother 妈妈;father 爸爸;house 房子;car 汽车;city 城市;
red 红色;blue 蓝色;green 绿色;white 白色;black 黑色;big 大;small 小;good 好;morning 早上;evening 晚上;rain 雨;
snow 雪;wind 风;mountain 山;river 河;sea 海;computer 电脑;phone 手机;music 音乐;love 爱;time 时间;today 今天;
tomorrow 明天;thank_you 谢谢;goodbye 再见;bread 面包;milk 牛奶;good_morning 早上好;good_night 晚安;weather 天气
""")

OPPOSITES_ENGLISH = _rows(
    "big small;hot cold;good bad;old young;fast slow;happy sad;up down;left right;day night;black white;high low;"
    "long short;open closed;early late;rich poor;strong weak;light dark;full empty;hard soft;wet dry;clean dirty;"
    "loud quiet;love hate;begin end;buy sell"
)
OPPOSITES_CHINESE = _rows("大 小;高 矮;冷 热;好 坏;快 慢;上 下;左 右;黑 白;长 短;多 少;远 近;新 旧;早 晚;开 关;强 弱")

LISTS_ENGLISH = {
    "fruits": "apples bananas oranges grapes pears peaches".split(),
    "animals": "cats dogs horses cows tigers lions".split(),
    "colors": "red blue green yellow black white".split(),
    "countries": "China France Germany Japan Brazil Egypt".split(),
    "vegetables": "carrots potatoes tomatoes onions cabbages spinach".split(),
    "sports": "football basketball tennis swimming running cycling".split(),
    "cities": "Paris London Tokyo Berlin Rome Beijing".split(),
    "drinks": "water tea coffee milk juice lemonade".split(),
}
LISTS_CHINESE = {
    "水果": "苹果 香蕉 橙子 葡萄 梨 桃子".split(),
    "动物": "猫 狗 马 牛 老虎 狮子".split(),
    "颜色": "红色 蓝色 绿色 黄色 黑色 白色".split(),
    "国家": "中国 法国 德国 日本 巴西 埃及".split(),
    "蔬菜": "胡萝卜 土豆 番茄 洋葱 白菜 菠菜".split(),
    "运动": "足球 篮球 网球 游泳 跑步 骑车".split(),
}

NAMES_ENGLISH = (
    "Alice Bob Carol David Emma Frank Grace Henry Ivy Jack Kate Leo Mary Nick Olivia Peter Rose Sam Tina Victor Wendy "
    "Tom Lucy Anna Ben Max Julia Paul Laura Mike John Sarah James Linda Maria Daniel Sophie Oscar Nina Hugo"
).split()
NAMES_CHINESE = (
    "小明 小红 李雷 韩梅梅 张伟 王芳 小李 小王 阿强 小美 刘洋 陈静 赵云 小刚 丽丽 李明 王伟 张三 李四".split()
)

ANIMALS = _rows(
    "fox 狐狸;rabbit 兔子;cat 小猫;dog 小狗;bear 小熊;mouse 老鼠;owl 猫头鹰;turtle 乌龟;frog 青蛙;dragon 小龙;"
    "lion 狮子;bird 小鸟;fish 小鱼;elephant 大象;monkey 猴子;penguin 企鹅"
)

NOUNS_ENGLISH = (
    "apple book chair river window garden mountain letter candle mirror bridge guitar pencil rocket lamp clock forest "
    "island engine bottle camera blanket hammer pillow wallet ladder kettle basket tunnel castle year people problem hand "
    "place company system program question work government number point area money story fact month job word business "
    "house service friend power hour game line law car team minute idea body information office door health person art "
    "history party result morning reason research teacher force education chemistry medicine football economics poetry"
).split()
NOUNS_CHINESE = (
    "量子力学 区块链 汽车 足球 股票 历史 哲学 相对论 电影 手机 飞机 火箭 医学 法律 经济 文学 化学 物理 数学 地理 生物 摄影 "
    "旅游 篮球 围棋 书法 京剧 茶道"
).split()

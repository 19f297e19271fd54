"""City names in English and Chinese: those used for training and those kept out of it.

The held-out names are never part of the training text; `evaluate.py` uses them to measure how well the model
copies values that it has not seen.
"""

from __future__ import annotations


def _names(text: str) -> list[str]:
    """Split a comma-separated table, dropping repeated names and keeping the order."""
    return list(dict.fromkeys(name.strip() for name in text.replace("\n", " ").split(",") if name.strip()))


ENGLISH = _names(
    """
Beijing, Shanghai, Guangzhou, Shenzhen, Chengdu, Hangzhou, Nanjing, Wuhan, Xi'an, Suzhou, Tianjin, Chongqing, Harbin,
Dalian, Qingdao, Xiamen, Kunming, Lhasa, Sanya, Urumqi, Guilin, Hong Kong, Macau, Taipei, London, Paris, Tokyo, Berlin,
Madrid, Rome, Moscow, Sydney, Melbourne, Toronto, Chicago, Boston, Seattle, Denver, Austin, Miami, Dallas, Houston,
Phoenix, Atlanta, Portland, Detroit, Philadelphia, Baltimore, Washington, Nashville, Memphis, Charlotte, Orlando, Tampa,
Cleveland, Columbus, Pittsburgh, Cincinnati, Indianapolis, Milwaukee, Minneapolis, Omaha, Tulsa, Tucson, Fresno, Oakland,
Sacramento, Honolulu, Anchorage, Boise, Buffalo, Raleigh, Richmond, Albany, Hartford, Providence, Madison, Lincoln,
New York, Los Angeles, San Francisco, San Diego, San Jose, San Antonio, Las Vegas, New Orleans, Kansas City,
Salt Lake City, Oklahoma City, St. Louis, Santa Fe, El Paso, Fort Worth, Long Beach, Colorado Springs, Virginia Beach,
Cairo, Alexandria, Delhi, New Delhi, Mumbai, Bangalore, Chennai, Kolkata, Hyderabad, Pune, Jaipur, Agra, Seoul, Busan,
Incheon, Bangkok, Phuket, Chiang Mai, Singapore, Jakarta, Bandung, Surabaya, Manila, Cebu, Hanoi, Da Nang,
Ho Chi Minh City, Phnom Penh, Vientiane, Yangon, Kuala Lumpur, Penang, Dubai, Abu Dhabi, Doha, Riyadh, Jeddah, Mecca,
Kuwait City, Muscat, Manama, Baghdad, Tehran, Isfahan, Shiraz, Damascus, Beirut, Amman, Jerusalem, Tel Aviv, Haifa,
Istanbul, Ankara, Izmir, Antalya, Athens, Thessaloniki, Vienna, Salzburg, Graz, Innsbruck, Prague, Brno, Warsaw, Krakow,
Gdansk, Wroclaw, Poznan, Budapest, Bucharest, Sofia, Belgrade, Zagreb, Split, Dubrovnik, Ljubljana, Sarajevo, Skopje,
Tirana, Oslo, Bergen, Stockholm, Gothenburg, Malmo, Helsinki, Turku, Copenhagen, Dublin, Cork, Galway, Belfast,
Edinburgh, Glasgow, Aberdeen, Cardiff, Manchester, Liverpool, Birmingham, Leeds, Sheffield, Bristol, Oxford, Cambridge,
York, Brighton, Bath, Nottingham, Brussels, Antwerp, Ghent, Amsterdam, Rotterdam, Utrecht, Eindhoven, The Hague,
Luxembourg, Zurich, Geneva, Basel, Bern, Lausanne, Milan, Venice, Naples, Turin, Florence, Bologna, Genoa, Palermo,
Verona, Pisa, Barcelona, Valencia, Seville, Granada, Malaga, Bilbao, Toledo, Zaragoza, Lisbon, Porto, Munich, Hamburg,
Frankfurt, Cologne, Stuttgart, Dresden, Leipzig, Hanover, Bremen, Nuremberg, Dortmund, Essen, Bonn, Heidelberg, Lyon,
Nice, Marseille, Toulouse, Bordeaux, Lille, Nantes, Strasbourg, Cannes, Monaco, Reykjavik, Tallinn, Riga, Vilnius, Kyiv,
Lviv, Odessa, Minsk, Chisinau, Saint Petersburg, Kazan, Sochi, Vladivostok, Novosibirsk, Tbilisi, Yerevan, Baku, Astana,
Almaty, Tashkent, Samarkand, Bishkek, Kabul, Islamabad, Karachi, Lahore, Dhaka, Colombo, Kathmandu, Thimphu, Male,
Ulaanbaatar, Kyoto, Osaka, Nagoya, Sapporo, Fukuoka, Hiroshima, Nara, Kobe, Yokohama, Sendai, Nagasaki, Okinawa,
Perth, Brisbane, Adelaide, Canberra, Darwin, Hobart, Cairns, Auckland, Wellington, Christchurch, Queenstown, Suva,
Ottawa, Montreal, Vancouver, Calgary, Edmonton, Winnipeg, Quebec City, Halifax, Victoria, Mexico City, Guadalajara,
Monterrey, Cancun, Tijuana, Havana, Kingston, Nassau, San Juan, Santo Domingo, Panama City, Guatemala City, Managua,
Bogota, Medellin, Cartagena, Caracas, Quito, Lima, Cusco, La Paz, Santiago, Valparaiso, Buenos Aires, Cordoba, Mendoza,
Montevideo, Asuncion, Brasilia, Rio de Janeiro, Sao Paulo, Salvador, Recife, Manaus, Lagos, Abuja, Accra, Dakar, Tunis,
Algiers, Casablanca, Marrakesh, Rabat, Fez, Tripoli, Khartoum, Addis Ababa, Nairobi, Mombasa, Kampala, Kigali, Dodoma,
Zanzibar, Lusaka, Harare, Maputo, Windhoek, Gaborone, Johannesburg, Cape Town, Durban, Pretoria, Luanda, Kinshasa,
Antananarivo, Port Louis, San Francisco, CA
""".replace("San Francisco, CA", "San Francisco")
)

# Names with a state or a country, as the description "The city and state, e.g. San Francisco, CA" invites them.
ENGLISH_WITH_REGION = [
    "San Francisco, CA",
    "Los Angeles, CA",
    "San Diego, CA",
    "Boston, MA",
    "New York, NY",
    "Seattle, WA",
    "Austin, TX",
    "Dallas, TX",
    "Houston, TX",
    "Miami, FL",
    "Orlando, FL",
    "Chicago, IL",
    "Denver, CO",
    "Portland, OR",
    "Phoenix, AZ",
    "Atlanta, GA",
    "Las Vegas, NV",
    "Paris, France",
    "London, UK",
    "London, England",
    "Tokyo, Japan",
    "Berlin, Germany",
    "Rome, Italy",
    "Madrid, Spain",
    "Sydney, Australia",
    "Toronto, Canada",
    "Beijing, China",
    "Shanghai, China",
]

CHINESE = list(
    dict.fromkeys(
        """
北京 上海 天津 重庆 广州 深圳 珠海 佛山 东莞 中山 惠州 汕头 江门 湛江 肇庆 茂名 梅州 清远 韶关 潮州 揭阳 成都 绵阳 乐山 宜宾
泸州 德阳 南充 自贡 攀枝花 达州 眉山 杭州 宁波 温州 绍兴 嘉兴 湖州 金华 台州 丽水 舟山 义乌 南京 苏州 无锡 常州 南通 徐州
扬州 镇江 盐城 连云港 淮安 泰州 宿迁 昆山 武汉 宜昌 襄阳 荆州 黄石 十堰 恩施 西安 咸阳 宝鸡 延安 汉中 榆林 渭南 哈尔滨 大庆
齐齐哈尔 牡丹江 佳木斯 大连 沈阳 鞍山 抚顺 丹东 锦州 营口 长春 吉林 四平 延吉 青岛 济南 烟台 威海 潍坊 淄博 临沂 济宁 泰安
日照 德州 聊城 厦门 福州 泉州 漳州 莆田 三明 龙岩 武夷山 长沙 株洲 湘潭 衡阳 岳阳 常德 张家界 郴州 凤凰 郑州 洛阳 开封 安阳
南阳 新乡 许昌 信阳 商丘 昆明 大理 丽江 香格里拉 西双版纳 玉溪 曲靖 贵阳 遵义 安顺 六盘水 南宁 桂林 柳州 北海 梧州 海口 三亚
三沙 琼海 兰州 敦煌 天水 嘉峪关 张掖 酒泉 太原 大同 平遥 临汾 运城 长治 晋城 合肥 芜湖 黄山 安庆 蚌埠 马鞍山 阜阳 南昌 九江
景德镇 赣州 上饶 吉安 宜春 石家庄 唐山 秦皇岛 保定 邯郸 承德 张家口 廊坊 沧州 呼和浩特 包头 鄂尔多斯 赤峰 呼伦贝尔 乌鲁木齐
吐鲁番 喀什 伊宁 克拉玛依 哈密 拉萨 日喀则 林芝 银川 西宁 格尔木 香港 澳门 台北 高雄 台中 台南 新竹 东京 大阪 京都 名古屋 札幌
福冈 横滨 神户 奈良 广岛 冲绳 首尔 釜山 仁川 平壤 曼谷 清迈 普吉 新加坡 吉隆坡 雅加达 巴厘岛 马尼拉 河内 胡志明市 岘港 金边
仰光 万象 新德里 孟买 班加罗尔 加尔各答 加德满都 伊斯兰堡 卡拉奇 达卡 科伦坡 马累 乌兰巴托 阿拉木图 塔什干 喀布尔 德黑兰
巴格达 迪拜 阿布扎比 多哈 利雅得 麦加 耶路撒冷 特拉维夫 大马士革 贝鲁特 安卡拉 伊斯坦布尔 雅典 罗马 米兰 威尼斯 佛罗伦萨
那不勒斯 都灵 巴黎 里昂 马赛 尼斯 波尔多 伦敦 曼彻斯特 利物浦 伯明翰 牛津 剑桥 爱丁堡 格拉斯哥 都柏林 柏林 慕尼黑 汉堡 法兰克福
科隆 斯图加特 德累斯顿 莱比锡 维也纳 萨尔茨堡 布拉格 华沙 克拉科夫 布达佩斯 布加勒斯特 索菲亚 贝尔格莱德 萨格勒布 苏黎世
日内瓦 伯尔尼 卢塞恩 布鲁塞尔 阿姆斯特丹 鹿特丹 海牙 卢森堡 马德里 巴塞罗那 塞维利亚 里斯本 奥斯陆 斯德哥尔摩 哥本哈根
赫尔辛基 雷克雅未克 塔林 里加 维尔纽斯 莫斯科 圣彼得堡 海参崴 基辅 明斯克 开罗 亚历山大 卡萨布兰卡 突尼斯 内罗毕 开普敦
约翰内斯堡 拉各斯 纽约 洛杉矶 旧金山 芝加哥 波士顿 西雅图 华盛顿 费城 迈阿密 休斯顿 达拉斯 丹佛 凤凰城 拉斯维加斯 亚特兰大
底特律 奥兰多 圣地亚哥 波特兰 檀香山 多伦多 温哥华 蒙特利尔 渥太华 卡尔加里 墨西哥城 坎昆 哈瓦那 巴拿马城 波哥大 利马
布宜诺斯艾利斯 里约热内卢 圣保罗 巴西利亚 悉尼 墨尔本 布里斯班 珀斯 堪培拉 阿德莱德 奥克兰 惠灵顿 基督城
""".split()
    )
)

HELD_OUT_ENGLISH = _names("""
Tromso, Aarhus, Bruges, Maastricht, Lugano, Trieste, Siena, Cadiz, Coimbra, Rostock, Kassel, Mainz, Dijon, Rennes, Tours,
Kaunas, Tartu, Debrecen, Plovdiv, Varna, Ohrid, Kotor, Mostar, Chania, Bursa, Konya, Aleppo, Basra, Mashhad, Bukhara,
Multan, Mysore, Varanasi, Kandy, Pokhara, Mandalay, Malacca, Medan, Davao, Hue, Kanazawa, Matsuyama, Daegu, Jeonju,
Geelong, Dunedin, Regina, Moncton, Spokane, Savannah, Baton Rouge, Grand Rapids, Santa Barbara, Oaxaca, Merida, Arequipa,
Sucre, Rosario, Curitiba, Belo Horizonte, Kumasi, Bamako, Oran, Asmara, Arusha, Lilongwe, Bulawayo, Port Elizabeth
""")

HELD_OUT_CHINESE = """
三门峡 平顶山 焦作 濮阳 鹤壁 周口 驻马店 邵阳 益阳 永州 怀化 娄底 萍乡 新余 鹰潭 抚州 宣城 池州 滁州 淮南 铜陵 衢州 东营 滨州
菏泽 枣庄 本溪 阜新 朝阳 通化 白城 鸡西 伊春 黑河 通辽 乌海 铜川 商洛 安康 平凉 庆阳 白银 石嘴山 中卫 广元 遂宁 雅安 资阳
毕节 铜仁 昭通 保山 普洱 玉林 百色 河池 贵港 阳江 云浮 随州 咸宁 黄冈 孝感 仙台 长崎 里尔 南特 根特 波恩 布里斯托 达尔文
""".split()

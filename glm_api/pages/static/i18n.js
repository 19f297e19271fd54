/** Every word of the page, in English and Chinese. */

import { preferences } from "./preferences.js";

export const STRINGS = {
  en: {
    skip: "Skip to the message box",
    conversations: "Conversations",
    noConversations: "Conversations stay in this browser.",
    newChat: "New chat",
    apiReference: "API reference",
    model: "Model",
    settings: "Settings",
    close: "Close",
    cancel: "Cancel",
    delete: "Delete",
    rename: "Rename",
    deleteTitle: "Delete this conversation?",
    untitled: "Untitled",

    message: "Message",
    messagePlaceholder: "Write a message",
    keys: "Enter sends, Shift+Enter starts a new line",
    send: "Send",
    stop: "Stop",
    toEnd: "Go to the end",
    copy: "Copy",
    copied: "Copied",
    edit: "Edit",
    regenerate: "Answer again",
    retry: "Try again",
    editSend: "Send",

    welcome: "What would you like to know?",
    demoWelcome:
      "This is a tiny demo model of 5 MB, to try the server with. It makes small talk, counts, knows capitals, tells a few " +
      "stories and calls tools. To anything else its answer is mostly nonsense. Set GLM_MODEL to serve a real model.",
    demoNote: "A tiny demo model: do not take its answers for facts.",
    withTools: "with the weather tool",

    you: "You",
    assistant: "Model",
    waiting: "Waiting for the model",
    reading: "Reading the prompt {percent} %",
    answering: "The model is answering",
    thinking: "The model is thinking",
    thought: "Thought for {n} s",
    endedLength: "The answer was cut at the length limit.",
    endedStopped: "You stopped this answer.",
    endedError: "This answer broke off.",
    unanswered: "This message has no answer yet.",
    answeredElsewhere: "This conversation is being answered in another tab.",
    versions: "Versions",
    versionEarlier: "Earlier version",
    versionLater: "Later version",

    tool: "Tool",
    toolsOn: "Example tools: weather and time",
    toolsOff: "Do not offer the example tools",
    sunny: "sunny",
    toolCall: "Calls {name}",
    toolResult: "Result of {name}",
    toolResultHint: "Play the tool: write what it would return.",
    sendResult: "Send the result",

    statTokens: "{n} tokens",
    statSpeed: "{n} tokens/s",
    statPrompt: "prompt {n}",
    statPromptCached: "prompt {n}, {cached} cached",
    statFirst: "first token after {n} s",

    systemPrompt: "System prompt",
    systemPlaceholder: "How the model should behave",
    temperature: "Temperature",
    temperatureHint: "0 gives the same answer each time",
    maxTokens: "Longest answer, in tokens",
    serverDefault: "The server's default",
    tools: "Offer example tools: weather and time",
    language: "Language",
    theme: "Theme",
    automatic: "Automatic",
    light: "Light",
    dark: "Dark",

    keyTitle: "API key",
    keyHint: "This server answers only to those who have a key.",
    keyRefused: "The server did not accept this key.",
    keyLabel: "Key",
    remember: "Keep it in this browser",
    useKey: "Use this key",
    changeKey: "Enter a key",
    forgetKey: "Forget the key",
    keyPresent: "An API key is in use.",
    keyAbsent: "No API key.",

    loading: "The model is loading",
    ready: "Ready",
    unreachable: "The server cannot be reached. Trying again.",
    errorNetwork: "The connection to the server was lost.",
    errorStatus: "The server answered with an error ({status}).",
    errorRetryAfter: "Try again in {n} s.",
    storageFull:
      "The browser's storage is full. What is new in this conversation is lost when the page is closed. Delete conversations " +
      "that you no longer need, or save this one as a file.",
    saveFile: "Save as a file",
  },
  zh: {
    skip: "跳到输入框",
    conversations: "对话",
    noConversations: "对话只保存在此浏览器中。",
    newChat: "新对话",
    apiReference: "API 文档",
    model: "模型",
    settings: "设置",
    close: "关闭",
    cancel: "取消",
    delete: "删除",
    rename: "重命名",
    deleteTitle: "删除此对话？",
    untitled: "未命名",

    message: "消息",
    messagePlaceholder: "输入消息",
    keys: "Enter 发送，Shift+Enter 换行",
    send: "发送",
    stop: "停止",
    toEnd: "回到底部",
    copy: "复制",
    copied: "已复制",
    edit: "编辑",
    regenerate: "重新回答",
    retry: "重试",
    editSend: "发送",

    welcome: "想聊点什么？",
    demoWelcome:
      "这是一个 5 MB 的演示模型，用来试用此服务器。它会简单聊天、数数、回答首都、讲几个故事，还会调用工具；" +
      "其他问题的回答多半不知所云。要使用真正的模型，请设置 GLM_MODEL。",
    demoNote: "这是很小的演示模型，请勿把它的回答当作事实。",
    withTools: "使用天气工具",

    you: "你",
    assistant: "模型",
    waiting: "正在等待模型",
    reading: "正在读取提示 {percent}%",
    answering: "模型正在回答",
    thinking: "模型正在思考",
    thought: "思考了 {n} 秒",
    endedLength: "回答已达到长度上限。",
    endedStopped: "你停止了这次回答。",
    endedError: "这次回答中断了。",
    unanswered: "这条消息还没有回答。",
    answeredElsewhere: "此对话正在另一个标签页中回答。",
    versions: "版本",
    versionEarlier: "较早的版本",
    versionLater: "较新的版本",

    tool: "工具",
    toolsOn: "示例工具：天气和时间",
    toolsOff: "不再提供示例工具",
    sunny: "晴",
    toolCall: "调用 {name}",
    toolResult: "{name} 的结果",
    toolResultHint: "请扮演工具：填写它会返回的内容。",
    sendResult: "发送结果",

    statTokens: "{n} 个 token",
    statSpeed: "{n} token/秒",
    statPrompt: "提示 {n}",
    statPromptCached: "提示 {n}（缓存 {cached}）",
    statFirst: "首个 token {n} 秒",

    systemPrompt: "系统提示",
    systemPlaceholder: "希望模型如何表现",
    temperature: "温度",
    temperatureHint: "0 表示每次回答都相同",
    maxTokens: "回答的最大 token 数",
    serverDefault: "服务器默认值",
    tools: "提供示例工具：天气和时间",
    language: "语言",
    theme: "配色",
    automatic: "自动",
    light: "浅色",
    dark: "深色",

    keyTitle: "API 密钥",
    keyHint: "此服务器需要密钥才能使用。",
    keyRefused: "服务器不接受此密钥。",
    keyLabel: "密钥",
    remember: "保存在此浏览器中",
    useKey: "使用此密钥",
    changeKey: "输入密钥",
    forgetKey: "清除密钥",
    keyPresent: "正在使用 API 密钥。",
    keyAbsent: "未设置 API 密钥。",

    loading: "模型正在加载",
    ready: "就绪",
    unreachable: "无法连接服务器，正在重试。",
    errorNetwork: "与服务器的连接已断开。",
    errorStatus: "服务器返回错误（{status}）。",
    errorRetryAfter: "请在 {n} 秒后重试。",
    storageFull: "浏览器的存储空间已满。关闭页面后，此对话的新内容将会丢失。请删除不再需要的对话，或把此对话保存为文件。",
    saveFile: "保存为文件",
  },
};

/** @returns {"en" | "zh"} */
export function language() {
  if (preferences.language !== "auto") return preferences.language;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/**
 * @param {keyof typeof STRINGS.en} name
 * @param {Record<string, string | number>} [values] for the {names} in the text
 * @returns {string}
 */
export function t(name, values = {}) {
  return STRINGS[language()][name].replace(/\{(\w+)\}/g, (_, value) => String(values[value]));
}

/**
 * @param {number} value
 * @param {number} [digits] after the point, at most
 * @returns {string} the number in the notation of the language
 */
export function number(value, digits = 0) {
  return value.toLocaleString(language(), { maximumFractionDigits: digits });
}

/** Writes the words of the current language into the fixed parts of the page. */
export function translatePage() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  /** @param {string} attribute @param {(node: HTMLElement, text: string) => void} put */
  const each = (attribute, put) => {
    for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`[${attribute}]`))) {
      put(node, t(/** @type {keyof typeof STRINGS.en} */ (node.getAttribute(attribute))));
    }
  };
  each("data-i18n", (node, text) => node.replaceChildren(text));
  each("data-i18n-placeholder", (node, text) => node.setAttribute("placeholder", text));
  each("data-i18n-label", (node, text) => {
    node.setAttribute("aria-label", text);
    if (node instanceof HTMLButtonElement) node.title = text;
  });
}

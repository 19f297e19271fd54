/** Suggested questions: for the demo model, questions that it answers; for other models, what any chat model can do. */

/**
 * @typedef {object} Suggestion
 * @property {string} text
 * @property {boolean} [tools] whether it needs the example tools
 */

/** The id under which the bundled demo model is served. */
const DEMO = "chatglm3-demo";

/** @type {Record<"demo" | "other", Record<"en" | "zh", Suggestion[]>>} */
export const SUGGESTIONS = {
  demo: {
    en: [
      { text: "What can you do?" },
      { text: "What is the capital of Japan?" },
      { text: "Tell me a story about a fox." },
      { text: "What is the weather in Paris?", tools: true },
    ],
    zh: [
      { text: "你会做什么？" },
      { text: "日本的首都是哪里？" },
      { text: "讲个故事" },
      { text: "北京今天天气怎么样？", tools: true },
    ],
  },
  other: {
    en: [
      { text: "What is the capital of Japan?" },
      { text: "Write a Python function that reverses a string" },
      { text: "Translate into Chinese: good morning" },
      { text: "What is the weather in Paris?", tools: true },
    ],
    zh: [
      { text: "日本的首都是哪里？" },
      { text: "写一个反转字符串的 Python 函数" },
      { text: "把“早上好”翻译成英文" },
      { text: "北京今天天气怎么样？", tools: true },
    ],
  },
};

/** @param {string} model its id */
export function isDemo(model) {
  return model === DEMO;
}

/**
 * @param {string} model its id
 * @param {"en" | "zh"} language
 */
export function suggestionsFor(model, language) {
  return SUGGESTIONS[isDemo(model) ? "demo" : "other"][language];
}

/** One answer, put together from the chunks of its stream. */

/**
 * @typedef {{id: string, type: "function", function: {name: string, arguments: string}}} ToolCall
 *
 * @typedef {object} Stats
 * @property {number} [promptTokens]
 * @property {number} [cachedTokens]
 * @property {number} [completionTokens]
 * @property {number} [tokensPerSecond]
 * @property {number} [firstTokenMs] from the request to the first piece of the answer, measured by this page
 * @property {number} [thinkingMs] from the first to the last piece of the reasoning, measured by this page
 *
 * @typedef {"stop" | "length" | "tool_calls" | "stopped" | "error"} Ending `stopped`: by the user
 */

export class Answer {
  content = "";
  /** What the model thinks before it answers. */
  reasoning = "";
  /** @type {ToolCall[]} */
  toolCalls = [];
  /** @type {Ending | null} */
  ending = null;
  /** @type {number | null} part of the prompt that the server has evaluated, 0 to 1; null if it does not say, or has finished */
  progress = null;
  /** @type {Stats} */
  stats = {};

  #asked = performance.now();
  /** @type {number | null} */
  #first = null;
  /** @type {number | null} */
  #thinkingSince = null;

  /** Whether nothing of the answer itself has come yet, only reasoning. */
  get isThinking() {
    return this.reasoning !== "" && this.content === "" && this.toolCalls.length === 0;
  }

  get isEmpty() {
    return this.content === "" && this.reasoning === "" && this.toolCalls.length === 0;
  }

  /** @param {any} chunk */
  add(chunk) {
    if (chunk.prompt_progress) {
      const { processed, total } = chunk.prompt_progress;
      this.progress = total > 0 ? Math.min(1, processed / total) : null;
    }
    const choice = chunk.choices?.[0];
    if (choice) {
      // Some servers behind GLM_BACKEND=openai call it `reasoning`.
      this.#think(choice.delta?.reasoning_content ?? choice.delta?.reasoning ?? "");
      this.content += choice.delta?.content ?? "";
      for (const part of choice.delta?.tool_calls ?? []) this.#addToolCall(part);
      this.ending = choice.finish_reason ?? this.ending;
    }
    if (this.#first === null && !this.isEmpty) {
      this.#first = performance.now();
      this.stats.firstTokenMs = this.#first - this.#asked;
    }
    if (chunk.usage) {
      this.stats.promptTokens = chunk.usage.prompt_tokens;
      this.stats.cachedTokens = chunk.usage.prompt_tokens_details?.cached_tokens;
      this.stats.completionTokens = chunk.usage.completion_tokens;
    }
    if (chunk.timings) this.stats.tokensPerSecond = chunk.timings.predicted_per_second;
  }

  /** @param {string} piece */
  #think(piece) {
    if (!piece) return;
    const now = performance.now();
    this.#thinkingSince ??= now;
    this.stats.thinkingMs = now - this.#thinkingSince;
    this.reasoning += piece;
  }

  /** @param {any} part */
  #addToolCall(part) {
    const call = (this.toolCalls[part.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    call.id ||= part.id ?? "";
    call.function.name += part.function?.name ?? "";
    call.function.arguments += part.function?.arguments ?? "";
  }

  /** @returns {import("./conversations.js").NewMessage} */
  toMessage() {
    return {
      role: "assistant",
      content: this.content,
      ...(this.reasoning && { reasoning: this.reasoning }),
      ...(this.toolCalls.length > 0 && { toolCalls: this.toolCalls }),
      ending: this.ending,
      stats: this.stats,
    };
  }
}

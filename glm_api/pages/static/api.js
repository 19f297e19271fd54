/** The server's HTTP API. The addresses are relative, so the page works under any path prefix. */

import { apiKey } from "./preferences.js";
import { readEvents } from "./sse.js";

/** An answer other than 2xx, an error in a stream, or (status 0) no answer at all. */
export class ApiError extends Error {
  /**
   * @param {string} message the server's message, or "" if there is none
   * @param {{status?: number, code?: string | null, retryAfter?: number | null}} [details] retryAfter in seconds
   */
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
async function errorOf(response) {
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  // A proxy's error page is not JSON; its status still says what happened.
  const { error } = await response.json().catch(() => ({}));
  return new ApiError(error?.message ?? "", {
    status: response.status,
    code: error?.code ?? null,
    retryAfter: Number.isNaN(seconds) ? null : seconds,
  });
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (apiKey()) headers.set("Authorization", `Bearer ${apiKey()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", referrerPolicy: "no-referrer" });
  } catch (reason) {
    if (options.signal?.aborted) throw reason;
    throw new ApiError("");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** Resolves when the server is ready; otherwise throws the reason. */
export async function health() {
  await request("health");
}

/** @returns {Promise<string[]>} the ids of the models that the server has */
export async function models() {
  const response = await request("v1/models");
  return (await response.json()).data.map((/** @type {{id: string}} */ model) => model.id);
}

/**
 * @param {object} body of POST /v1/chat/completions
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<any, void, void>} the chunks, in order
 */
export async function* streamChat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.body) throw new ApiError("");
  try {
    for await (const data of readEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, { status: response.status, code: chunk.error.code });
      yield chunk;
    }
  } catch (reason) {
    if (signal.aborted || reason instanceof ApiError) throw reason;
    throw new ApiError("");
  }
  throw new ApiError("");
}

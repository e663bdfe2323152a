// The endpoint's routes. A refused call throws `Refusal`, whose fields are the answer's own words.

const TOKEN = "winnow-token";
const PATIENCE_MS = 90_000; // longer than the longest deadline that the endpoint accepts

export class Refusal extends Error {
  constructor(status, errors, retryAfter = null) {
    super(errors.map((error) => error.message).join("; "));
    this.status = status; // 0: no answer came
    this.errors = errors;
    this.retryAfter = retryAfter; // seconds, as the server wrote it
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

export const catalogue = () => call("catalogue");
export const user = (id, signal) => call(`users/${encodeURIComponent(id)}`, { signal });
export const recommend = (body, signal) => call("recommend", { body, signal });
export const sendEvent = (event) => call("events", { body: { events: [event] } });

async function call(path, { body, signal } = {}) {
  const headers = {};
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  if (body) headers["content-type"] = "application/json";
  const patience = AbortSignal.timeout(PATIENCE_MS);
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw noAnswer("no answer: is the endpoint running, and is the network up?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw new Refusal(response.status, errorsOf(answer, response), response.headers.get("retry-after"));
}

const noAnswer = (message) => new Refusal(0, [{ field: "", message }]);

function errorsOf(answer, response) {
  if (Array.isArray(answer?.errors) && answer.errors.length) return answer.errors;
  const said = response.statusText ? ` (${response.statusText})` : "";
  return [{ field: "", message: `the answer ${response.status}${said} holds no JSON that the page knows` }];
}

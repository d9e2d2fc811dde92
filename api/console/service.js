// Calls to the service, with the operator's token. The token is kept for this tab only.

const KEPT_AS = "stockade.token";
const PATIENCE_MS = 8000;
const TOKEN = /^[\x21-\x7e]+$/;

/** The service said no: `code` is the problem's, `detail` its words. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.code = problem.code ?? "";
  }
}

/** No answer came, or none that can be read. */
export class Away extends Error {}

export const token = () => sessionStorage.getItem(KEPT_AS) ?? "";
export const remember = (text) => sessionStorage.setItem(KEPT_AS, text);
export const forget = () => sessionStorage.removeItem(KEPT_AS);

/** Whether it can be sent at all. */
export const isSendable = (text) => TOKEN.test(text);

export const get = (path) => send("GET", path);
export const put = (path, body) => send("PUT", path, body);

async function send(method, path, body) {
  const headers = { Authorization: `Bearer ${token()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) options.body = JSON.stringify(body);
  let answer;
  let document;
  try {
    answer = await fetch(path, options);
    document = await answer.json();
  } catch (error) {
    if (answer && !answer.ok) throw new Refused(answer.status, {});
    throw new Away(error.name === "TimeoutError" ? `No answer within ${PATIENCE_MS / 1000} s` : "No answer");
  }
  if (!answer.ok) throw new Refused(answer.status, document);
  return document;
}

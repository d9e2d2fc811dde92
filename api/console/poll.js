// Polls once a second, one request at a time; less often while the tab is hidden or the service doesn't answer.

const EVERY_MS = 1000;
const HIDDEN_MS = 15000;
const MOST_DOUBLINGS = 4;

export class Poll {
  #ask;
  #answered;
  #failed;
  #timer = null;
  #asking = false;
  #running = false;
  #askedAt = -Infinity;
  #failures = 0;
  #run = 0;

  /** `answered(answer)` and `failed(error)` are told what became of each `ask()`. */
  constructor(ask, answered, failed) {
    this.#ask = ask;
    this.#answered = answered;
    this.#failed = failed;
    document.addEventListener("visibilitychange", () => this.now());
    addEventListener("online", () => this.now());
  }

  start() {
    this.#running = true;
    this.#failures = 0;
    this.#askedAt = -Infinity;
    this.now();
  }

  stop() {
    this.#running = false;
    this.#run += 1;
    clearTimeout(this.#timer);
  }

  /** Ask as soon as one may: a second after the last time. */
  now() {
    if (this.#running && !this.#asking) this.#in(document.hidden ? HIDDEN_MS : EVERY_MS);
  }

  #in(pauseMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#round(), Math.max(0, this.#askedAt + pauseMs - performance.now()));
  }

  async #round() {
    this.#asking = true;
    this.#askedAt = performance.now();
    const run = this.#run;
    let tell;
    try {
      const answer = await this.#ask();
      this.#failures = 0;
      tell = () => this.#answered(answer);
    } catch (error) {
      this.#failures = Math.min(this.#failures + 1, MOST_DOUBLINGS);
      tell = () => this.#failed(error);
    }
    this.#asking = false;
    if (run !== this.#run) {
      // It was stopped meanwhile, and perhaps started anew, with another token: this answer is nobody's.
      this.now();
      return;
    }
    // First the next round: a fault in showing this one must not end the polling.
    this.#in(Math.max(EVERY_MS * 2 ** this.#failures, document.hidden ? HIDDEN_MS : 0));
    tell();
  }
}

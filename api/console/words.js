// Numbers and times as text.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const UNKNOWN = "–";

export const count = (number) => (number === null ? UNKNOWN : WHOLE.format(number));

export const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

/** Below ten, a tenth matters. */
export const rate = (number) => (number < 10 && !Number.isInteger(number) ? TENTHS : WHOLE).format(number);

export function bytes(number) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${(number < 10 && unit > 0 ? TENTHS : WHOLE).format(number)} ${units[unit]}`;
}

/** Two units at most: a person reads this. */
export function duration(seconds) {
  if (seconds < 10 && !Number.isInteger(seconds)) return `${TENTHS.format(seconds)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** The time of day in UTC, as the logs have it: from an RFC 3339 time, or from a Date. */
export function clock(time) {
  const text = time instanceof Date ? `${time.toISOString().slice(0, 19)}Z` : time;
  return text.slice(11).replace("Z", "");
}

/** Day and time, for what may be old. */
export const moment = (time) => time.replace("T", " ").replace("Z", "");

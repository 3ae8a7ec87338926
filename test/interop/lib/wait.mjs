// Waiting for conditions, never for time.

/** How long anything may take. What takes as long on any machine will not happen at all. */
export const DEADLINE_MS = 30_000;

/** Full counts with HELIOGRAPH_SOAK=1, a tenth of them otherwise. */
export const rounds = (full) => (process.env.HELIOGRAPH_SOAK === "1" ? full : Math.ceil(full / 10));

/** What can explain a wait in vain: functions that return text. */
export const witnesses = new Set();

function inVain(what, reason) {
  const statements = [...witnesses].map((witness) => witness()).filter(Boolean);
  return new Error([`waited ${DEADLINE_MS} ms in vain: ${what}: ${reason}`, ...statements].join("\n"));
}

/**
 * Polls the condition until it returns nothing. While it does not hold, it returns (or
 * throws) the reason, which the failure will quote.
 */
export async function until(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  for (let pause = 1; ; pause = Math.min(2 * pause, 50)) {
    let reason;
    try {
      reason = await condition();
    } catch (error) {
      reason = error;
    }
    if (reason === undefined || reason === null) return;
    if (Date.now() > end) throw inVain(what, reason);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Returns what the promise does, or fails at the deadline. */
export async function settled(what, promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(inVain(what, "still pending")), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** A promise with its two ends. */
export function deferred() {
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  return d;
}

/**
 * Makes an element. Attributes whose name begins with "on" are listeners, and those
 * that are false, null or undefined are left out. Children are elements or strings, and
 * strings become text: what people type is never markup.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * Appends to a list that scrolls, and drops its first entries beyond the limit. The list
 * stays at its end if that was in view.
 */
export function appendTo(list, entry, limit) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 32;
  list.append(entry);
  while (list.childElementCount > limit) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** The time of day, to the minute, or to the millisecond. */
export function timeOf(date, { exact = false } = {}) {
  const digits = (number, n = 2) => String(number).padStart(n, "0");
  const minute = `${digits(date.getHours())}:${digits(date.getMinutes())}`;
  return exact ? `${minute}:${digits(date.getSeconds())}.${digits(date.getMilliseconds(), 3)}` : minute;
}

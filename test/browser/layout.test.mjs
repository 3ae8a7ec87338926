// The page on screens of several sizes, and by keyboard alone.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { openWindow, startBrowser } from "./lib/browser.mjs";
import { startServer } from "./lib/server.mjs";

const server = await startServer();
const browser = await startBrowser();

const pictures = fileURLToPath(new URL("screenshots/", import.meta.url));
await mkdir(pictures, { recursive: true });

/** Several people at work, with short names and long ones. */
async function scene(window) {
  const [one, two] = [await window.tab(server.url), await window.tab(server.url)];
  await two.tab.setViewportSize({ width: 360, height: 740 });
  const ada = await one.connect("ada", "lobby");
  const ben = await two.connect("ben", "lobby");
  await ben.sendToGroup("lobby", "Hello everybody! Is this thing on?");
  await ada.got(["by group lobby from ben: Hello everybody! Is this thing on?"]);
  const phone = await one.connect("ada", "kitchen");
  await ada.sendToGroup("lobby", "It is. I read you loud and clear, on one of my two connections.");
  await ben.sendToUser("ada", "And this is for you alone, on both of them.");
  await phone.got(["by user ada from ben: And this is for you alone, on both of them."]);
  await phone.sendToGroup("kitchen", "Anybody in the kitchen?");
  const cleo = await one.connect("cleo", "lobby");
  await cleo.sendToUser("ben", "Hi ben, cleo here.");
  await ben.got(["by group lobby from ben: Hello everybody! Is this thing on?",
    "by group lobby from ada: It is. I read you loud and clear, on one of my two connections.", "by user ben from cleo: Hi ben, cleo here."]);
  await ada.write("group", "lobby", "Welcome, cleo!");
  return { one, two };
}

test("people at work", async (t) => {
  const window = await openWindow(t, browser, { viewport: { width: 1440, height: 900 } });
  const { one, two } = await scene(window);

  await t.test("pictures of it", async () => {
    await one.tab.evaluate(() => scrollTo(0, 0));
    await one.tab.screenshot({ path: `${pictures}wide.png` });
    await two.tab.screenshot({ path: `${pictures}small.png` });
  });

  await t.test("buttons are large enough for fingers", async () => {
    const small = await two.tab.evaluate(() => [...document.querySelectorAll("button, a, .choice, input:not([type=radio])")]
      .filter((e) => e.checkVisibility())
      .map((e) => ({ name: e.outerHTML, box: e.getBoundingClientRect() }))
      .filter(({ box }) => box.width < 24 || box.height < 24)
      .map(({ name }) => name));
    assert.deepEqual(small, []);
  });

  await t.test("words can be read", async () => {
    for (const colorScheme of ["light", "dark"]) {
      await one.tab.emulateMedia({ colorScheme });
      for (let hue = 0; hue < 360; hue += 45) { // names have any
        await one.tab.evaluate((hue) => {
          for (const e of document.querySelectorAll("[style]")) e.style.setProperty("--hue", hue);
        }, hue);
        assert.deepEqual(await one.tab.evaluate(contrastsBelow, 4.5), [], `${colorScheme}, hue ${hue}`);
      }
    }
  });
});

test("nothing sticks out, whatever the width", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  const long = "W".repeat(64);
  const card = await page.connect(long, long);
  await card.join("a".repeat(64));
  await card.sendToGroup(long, "m".repeat(300));
  await card.sendToUser(long, "m".repeat(300));
  await card.got([`by group ${long} from ${long}: ${"m".repeat(300)}`, `by user ${long} from ${long}: ${"m".repeat(300)}`]);
  for (const colorScheme of ["light", "dark"]) {
    await page.tab.emulateMedia({ colorScheme });
    for (const width of [320, 360, 768, 1440, 2560]) {
      await page.tab.setViewportSize({ width, height: 740 });
      const out = await page.tab.evaluate(() => {
        document.getElementById("trace").open = true;
        const wide = [...document.querySelectorAll("html, body, body *")].filter((e) => {
          const box = e.getBoundingClientRect();
          const scrolls = e.scrollWidth > e.clientWidth + 1 && ["auto", "visible"].includes(getComputedStyle(e).overflowX) && e.clientWidth > 0;
          return !e.closest(".unseen, legend, datalist, svg") && (box.left < 0 || box.right > innerWidth + 0.5 || scrolls);
        });
        return wide.filter((e) => !wide.includes(e.parentElement)).map((e) => `${e.localName}.${e.className}`);
      });
      assert.deepEqual(out, [], `at ${width} px`);
    }
  }
});

/** Runs on the page: the texts in it whose contrast with what is behind them is too low. */
function contrastsBelow(least) {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const hasText = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!hasText || !e.checkVisibility() || e.closest(".unseen, legend")) continue;
    const behind = [];
    for (let under = e; under; under = under.parentElement) behind.unshift(getComputedStyle(under).backgroundColor);
    const [text, ground] = [paint([...behind, getComputedStyle(e).color]), paint(behind)].map(luminance).sort((a, b) => b - a);
    const contrast = (text + 0.05) / (ground + 0.05);
    if (contrast < least) low.push(`${contrast.toFixed(2)}: ${e.localName}.${e.className} ${e.textContent}`);
  }
  return low;
}

test("everything is done by keys alone", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  const keys = page.tab.keyboard;
  const focused = () => page.tab.evaluate(() => {
    const e = document.activeElement;
    return e.getAttribute("aria-label") ?? e.labels?.[0]?.textContent.trim() ?? e.textContent.trim();
  });
  const to = async (name, key = "Tab") => {
    const passed = [];
    for (let i = 0; i < 40; i++) {
      const at = await focused();
      if (at === name) return;
      passed.push(at);
      await keys.press(key);
    }
    assert.fail(`${key} does not lead to ${name}, but to ${passed.join(", ")}`);
  };

  assert.equal(await focused(), "Name");
  await keys.type("ada"); // what is proposed is selected
  await keys.press("Enter");
  const card = await page.lastCard("ada");
  await card.isIn(["lobby"]);
  assert.equal(await focused(), "Message");
  await keys.type("by keys");
  await keys.press("Enter");
  await card.got(["by group lobby from ada: by keys"]);
  assert.equal(await focused(), "Message");

  await to("group", "Shift+Tab");
  await keys.press("ArrowRight");
  assert.equal(await focused(), "user");
  await to("Name of the user");
  await keys.type("ada");
  await to("Message");
  await keys.type("to myself");
  await keys.press("Enter");
  await card.got(["by group lobby from ada: by keys", "by user ada from ada: to myself"]);

  await to("Group to join", "Shift+Tab");
  await keys.type("kitchen");
  await keys.press("Enter");
  await card.isIn(["lobby", "kitchen"]);
  await to("Leave the group lobby", "Shift+Tab");
  await keys.press("Space");
  await card.isIn(["kitchen"]);
  assert.equal(await focused(), "Group to join");

  await to("Open another connection of ada", "Shift+Tab");
  await keys.press("Enter");
  const second = await page.lastCard("ada");
  await second.isIn(["lobby"]);
  await to("Close this connection", "Shift+Tab");
  await keys.press("Enter");
  assert.equal(await page.cards(), 1);
  assert.equal(await focused(), "Message");
});

test("all that can be used is reached by Tab, and shows that it is", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  await page.connect("ada", "lobby");
  await page.name.focus();
  const reached = await page.tab.evaluate(() => {
    const usable = [...document.querySelectorAll("a, button, input, summary, [tabindex]")];
    // Of a group of radio buttons, Tab leads to the chosen one.
    globalThis.missing = new Set(usable.filter((e) => e.checkVisibility() && (e.type !== "radio" || e.checked)));
    globalThis.unmarked = [];
    return globalThis.missing.size;
  });
  assert(reached > 10, `${reached} things to use: the test does not see them`);
  for (let i = 0; i < reached + 5; i++) {
    await page.tab.evaluate(() => {
      const e = document.activeElement;
      globalThis.missing.delete(e);
      const shown = e.closest(".choice") ?? e;
      if (e !== document.body && getComputedStyle(shown).outlineStyle === "none") globalThis.unmarked.push(e.outerHTML);
    });
    await page.tab.keyboard.press("Tab");
  }
  assert.deepEqual(await page.tab.evaluate(() => [[...globalThis.missing].map((e) => e.outerHTML), globalThis.unmarked]), [[], []]);
});

test("motion is for those who want it", async (t) => {
  for (const [reducedMotion, animated] of [["reduce", false], ["no-preference", true]]) {
    const window = await openWindow(t, browser, { reducedMotion });
    const page = await window.tab(server.url);
    const card = await page.connect("ada", "lobby");
    await card.sendToGroup("lobby", "hello");
    await card.got(["by group lobby from ada: hello"]);
    const name = await page.tab.locator(".message").evaluate((message) => getComputedStyle(message).animationName);
    assert.equal(name !== "none", animated, `${reducedMotion}: ${name}`);
  }
});

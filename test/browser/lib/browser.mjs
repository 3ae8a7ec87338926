// A real browser without a window, and its tabs.

import assert from "node:assert/strict";
import { after } from "node:test";

import { chromium } from "playwright-core";

import { DEADLINE_MS } from "../../interop/lib/wait.mjs";
import { Page } from "./page.mjs";

const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-software-rasterizer"];

/** Starts a browser, with an empty profile, that ends with the calling test file. */
export async function startBrowser() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
  after(() => browser.close());
  return browser;
}

/**
 * A person's window with tabs, for one test. When the test ends it fails if a tab
 * complained, unless the complaint matches `expected`: of errors and warnings on the
 * console, uncaught exceptions, and violations of the content security policy.
 */
export async function openWindow(t, browser, { expected, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  const complaints = [];
  await context.exposeFunction("complain", (text) => complaints.push(text));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => globalThis.complain(`${violatedDirective} forbids ${blockedURI}`));
  });
  context.on("page", (page) => {
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error.stack ?? error)));
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !expected?.test(text)), [], "a tab complains");
  });
  return {
    complaints,
    context,
    /** Opens a tab with the page. */
    async tab(url) {
      const tab = await context.newPage();
      await tab.goto(url);
      return new Page(tab);
    },
    /** Does what opens a tab by itself, and returns the tab. */
    async tabFrom(action) {
      const [tab] = await Promise.all([context.waitForEvent("page"), action()]);
      await tab.waitForLoadState();
      return new Page(tab);
    },
  };
}

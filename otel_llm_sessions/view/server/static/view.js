"use strict";
/* Adds to a page that reads well without it: times in the reader's zone, news as they come, the keyboard. */
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  /* Times */
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const ago = (at) => {
    const seconds = (Date.now() - at) / 1000;
    if (seconds > 30 * 86400 || seconds < -60) return full.format(at);
    const [unit, size] = units.find(([, size]) => seconds >= size) || units[3];
    return seconds < 10 ? "just now" : `${Math.floor(seconds / size)} ${unit} ago`;
  };
  const forms = { ago, clock: (at) => clock.format(at), "": (at) => full.format(at) };

  const tell = (within) => {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      const text = forms[time.dataset.form || ""](at);
      if (time.textContent !== text) time.textContent = text;
      if (!time.title) time.title = exact.format(at);
    }
  };

  /* News: what the server would send now takes the place of what has changed, and nothing else is touched. */
  const told = new WeakMap();
  const remember = (within) => {
    for (const each of within.querySelectorAll("[data-key]")) told.set(each, each.outerHTML);
  };
  const folds = (within) => [...within.querySelectorAll("details[data-fold]")];

  const take = (old, fresh) => {
    const focused = old.contains(document.activeElement);
    const open = folds(old).map((each) => each.open);
    told.set(fresh, fresh.outerHTML);
    remember(fresh);
    folds(fresh).forEach((each, index) => { if (index < open.length) each.open = open[index]; });
    old.replaceWith(fresh);
    tell(fresh);
    if (focused) (fresh.querySelector("a.row") || fresh).focus({ preventScroll: true });
  };

  const merge = (old, fresh) => {
    const byKey = new Map([...old.children].map((each) => [each.dataset.key, each]));
    let before = null;
    for (const each of [...fresh.children]) {
      const key = each.dataset.key;
      let there = byKey.get(key);
      byKey.delete(key);
      if (!there) {
        told.set(each, each.outerHTML);
        remember(each);
        there = each;
        there.classList.add("fresh");
        tell(there);
      } else if (there.hasAttribute("data-keyed") && each.hasAttribute("data-keyed")) {
        merge(there, each);
      } else if (told.get(there) !== each.outerHTML) {
        const now = document.importNode(each, true);
        take(there, now);
        there = now;
      }
      const place = before ? before.nextSibling : old.firstChild;
      if (there !== place) old.insertBefore(there, place);
      before = there;
    }
    for (const gone of byKey.values()) gone.remove();
  };

  let asking = false, again = false, failed = false, last = "";
  /* Resolves to whether there was something new. */
  const refresh = async () => {
    if (asking) { again = true; return true; }
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return false;
      const text = await answer.text();
      if (text === last) return false;
      last = text;
      const page = new DOMParser().parseFromString(text, "text/html");
      const atEnd = innerHeight + scrollY >= root.scrollHeight - 60 && scrollY > 0;
      const [old, fresh] = [document.querySelector("main"), page.querySelector("main")];
      const lists = [old, fresh].map((each) => each.querySelector("table.sessions > tbody"));
      if (lists[0] && lists[1]) merge(...lists);
      else if (old.querySelector(".turns") && fresh.querySelector(".turns")) merge(old, fresh);
      else { old.replaceWith(fresh); remember(fresh); tell(fresh); }
      if (atEnd) scrollTo(0, root.scrollHeight);
      return true;
    } catch { /* the server is away; it is asked again later */ return false; } finally {
      asking = false;
      if (again) { again = false; setTimeout(refresh, 300); }
    }
  };

  let stream = null;
  const listen = () => {
    const address = document.body.dataset.live;
    if (!address || document.hidden || stream) return;
    stream = new EventSource(address);
    stream.onopen = () => { root.classList.add("is-live"); if (failed) refresh(); failed = false; };
    stream.onerror = () => { root.classList.remove("is-live"); failed = true; };
    stream.onmessage = (event) => { document.body.dataset.live = address.replace(/after=.*/, `after=${event.data}`); refresh(); };
  };
  /* A hidden page keeps no connection: a browser has six for all of its tabs. */
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) { listen(); return; }
    if (stream) stream.close();
    stream = null;
  });

  /* Keyboard */
  const typing = (at) => at.matches("input:not([type=checkbox]), select, textarea");
  const places = () => [...document.querySelectorAll("a.row, article.turn[id]")];
  const move = (by) => {
    const all = places();
    const at = document.activeElement.closest("tr, article.turn");
    const here = all.findIndex((each) => each.closest("tr, article.turn") === at);
    const next = all[here < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(here + by, 0), all.length - 1)];
    if (!next) return;
    next.focus({ preventScroll: true });
    next.closest("tr, article.turn").scrollIntoView({ block: next.matches("a") ? "nearest" : "start" });
  };
  const leave = () => {
    const open = document.querySelector(".more[open]");
    if (open) { open.open = false; return; }
    const back = document.querySelector("a.back");
    if (back) back.click();
    else if (document.body.classList.contains("session")) location.href = sessionStorage.getItem("list") || "/";
    else if (document.activeElement !== document.body) document.activeElement.blur();
  };
  const search = () => {
    const field = document.querySelector("#text");
    if (!field) { location.href = "/#text"; return; }
    field.focus();
    field.select();
  };
  const keys = { j: () => move(1), k: () => move(-1), "/": search, Escape: leave };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  /* Filters hold as soon as they are chosen; what says nothing is left out of the address. */
  const form = document.querySelector("form.find");
  if (form) {
    if (document.body.classList.contains("list")) sessionStorage.setItem("list", location.pathname + location.search);
    form.addEventListener("change", (event) => { if (event.target.matches("select, [type=checkbox]")) form.requestSubmit(); });
    form.addEventListener("submit", () => { for (const each of form.elements) if (!each.value) each.disabled = true; });
    addEventListener("pageshow", () => { for (const each of form.elements) each.disabled = false; });
    if (location.hash === "#text") search();
  }

  remember(document);
  tell(document);
  listen();
  setInterval(() => { if (!document.hidden) tell(document); }, 20000);
  /* Where nothing tells of news it is asked for: the longer there was none, the less often. */
  const every = Number(document.body.dataset.again) * 1000;
  let pause = every, waiting = 0;
  const ask = async () => {
    waiting = 0;
    if (document.hidden) return;
    pause = await refresh() ? every : Math.min(2 * pause, 16 * every);
    waiting ||= setTimeout(ask, pause);
  };
  if (every) {
    waiting = setTimeout(ask, pause);
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !waiting) { pause = every; ask(); } });
  }
})();

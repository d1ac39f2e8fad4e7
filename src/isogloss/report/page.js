"use strict";
// Folds that hold the target of a link, or all of them on paper, are opened.
(() => {
  const reveal = (target) => {
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  };
  const revealHash = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) { reveal(target); target.scrollIntoView(); }
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link) reveal(document.getElementById(link.getAttribute("href").slice(1)));
  });
  addEventListener("hashchange", revealHash);
  if (location.hash) revealHash();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => { for (const fold of opened) fold.open = false; });
})();
// The items: rows are numbers, and only those shown become elements. Texts are never markup.
(() => {
  const source = document.getElementById("items-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const STEP = 50;
  const find = (id) => document.getElementById(id);
  const items = [];
  for (const language of data.languages) {
    for (const [id, passage, question, options, answer] of language.items) {
      items.push({ language, id, question, options, answer,
                   passage: passage < 0 ? "" : language.passages[passage], text: null });
    }
  }
  const languageEnds = [];
  let end = 0;
  for (const language of data.languages) languageEnds.push(end += language.items.length);
  const right = (run, at) => data.runs[run].correct[at] === "1";
  const outcome = (place, at) => {
    const pair = data.pairs[place];
    const before = right(pair.before, at), after = right(pair.after, at);
    return before === after ? (after ? "stayed right" : "stayed wrong")
      : (after ? "turned right" : "turned wrong");
  };
  const words = (item) => {
    item.text ??= [item.id, item.passage, item.question, ...item.options].join("\n").toLowerCase();
    return item.text;
  };
  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const options = (select, values) => {
    for (const value of values) select.append(element("option", value, { value }));
    select.closest("label").hidden = values.length < 2;
  };
  const unique = (values) => [...new Set(values)];
  const language = find("items-language");
  for (const { code, name } of data.languages) {
    language.append(element("option", `${name} (${code})`, { value: code }));
  }
  options(find("items-model"), unique(data.pairs.map((pair) => pair.model)));
  options(find("items-adapter"), unique(data.pairs.map((pair) => pair.adapter)));

  let rows = [], shown = 0;
  const filter = () => {
    const model = find("items-model").value, adapter = find("items-adapter").value;
    const wanted = find("items-outcome").value, text = find("items-text").value.trim().toLowerCase();
    const pairs = data.pairs.map((pair, place) => place).filter((place) =>
      (!model || data.pairs[place].model === model) &&
      (!adapter || data.pairs[place].adapter === adapter));
    const chosen = data.languages.findIndex(({ code }) => code === language.value);
    const from = chosen > 0 ? languageEnds[chosen - 1] : 0;
    const to = chosen < 0 ? items.length : languageEnds[chosen];
    const byModel = unique(pairs.map((place) => data.pairs[place].model)).map((name) =>
      pairs.filter((place) => data.pairs[place].model === name));
    rows = [];
    let counted = 0;
    for (let at = from; at < to; at++) {
      if (text && !words(items[at]).includes(text)) continue;
      for (const own of byModel) {
        const chosen = wanted ? own.filter((place) => outcome(place, at) === wanted) : own;
        if (!chosen.length) continue;
        rows.push([at, chosen, own.length]);
        counted += chosen.length;
      }
    }
    const all = items.length * data.pairs.length;
    find("items-count").textContent =
      `${counted.toLocaleString("en")} of ${all.toLocaleString("en")} answers`
      + (counted ? "" : ". No item matches these filters.");
    find("items-list").replaceChildren();
    shown = 0;
    more();
  };
  const more = () => {
    const first = shown;
    for (; shown < Math.min(rows.length, first + STEP); shown++) {
      find("items-list").append(card(rows[shown]));
    }
    const left = rows.length - shown;
    find("items-more").hidden = left === 0;
    find("items-more").textContent = `Show ${Math.min(STEP, left)} more of ${left.toLocaleString("en")}`;
  };
  const card = ([at, places, among]) => {
    const item = items[at], pairs = places.map((place) => data.pairs[place]);
    const made = element("li", undefined, { class: "item" });
    const heading = element("p", undefined, { class: "item-head" });
    const kinds = places.map((place) => outcome(place, at));
    unique(kinds).forEach((kind, place) => {
      const number = kinds.filter((each) => each === kind).length;
      heading.append(place ? ", " : "", element("strong", kind, { class: kind.replace(" ", "-") }));
      if (among > 1) heading.append(` (${number} of ${among})`);
    });
    const where = [`${item.language.name} (${item.language.code})`, item.id];
    if (unique(data.pairs.map((each) => each.model)).length > 1) where.push(pairs[0].model);
    if (pairs.length === 1 && pairs[0].adapter) where.push(pairs[0].adapter);
    for (const part of where) heading.append(" · ", element("bdi", part));
    made.append(heading);
    if (item.passage) made.append(element("p", item.passage, { dir: "auto", class: "passage" }));
    if (item.question) made.append(element("p", item.question, { dir: "auto", class: "question" }));
    const scroll = element("div", undefined,
      { class: "scroll", role: "region", tabindex: "0", "aria-label": `Answers to ${item.id}` });
    scroll.append(answers(item, at, pairs));
    made.append(scroll);
    return made;
  };
  const answers = (item, at, pairs) => {
    const table = element("table"), head = element("tr");
    const shown = unique([pairs[0].before, ...pairs.flatMap((pair) => pair.shown)]);
    head.append(element("th", "Option", { scope: "col" }));
    for (const run of shown) {
      const { label, adapter } = data.runs[run];
      const name = pairs.length > 1 && adapter ? `${label}, ${adapter}` : label;
      head.append(element("th", name, { scope: "col" }));
    }
    table.append(element("thead"), element("tbody"));
    table.tHead.append(head);
    const body = table.tBodies[0];
    const known = Math.max(item.options.length, item.answer + 1, ...shown.flatMap((run) => [
      (data.runs[run].probabilities?.[at] ?? []).length, (data.runs[run].choices?.[at] ?? -1) + 1]));
    for (let place = 0; place < known; place++) {
      const line = element("tr", undefined, place === item.answer ? { class: "answer" } : {});
      const label = element("th", undefined, { scope: "row" });
      label.append(element("span", item.options[place] ?? `option ${place + 1}`, { dir: "auto" }));
      if (place === item.answer) label.append(" ", element("em", "right answer"));
      line.append(label);
      for (const run of shown) line.append(cell(data.runs[run], at, place));
      body.append(line);
    }
    const last = element("tr");
    last.append(element("th", "Counted", { scope: "row" }));
    for (const run of shown) {
      const invalid = data.runs[run].choices?.[at] === -1 ? ", no valid answer" : "";
      last.append(element("td", (right(run, at) ? "right" : "wrong") + invalid));
    }
    body.append(last);
    return table;
  };
  const cell = (run, at, place) => {
    const probability = run.probabilities?.[at]?.[place], share = run.shares?.[at]?.[place];
    const percent = (value) => value === 0 ? "<0.1%" : `${(value / 10).toFixed(1)}%`;
    const chosen = run.choices?.[at] === place;
    const made = element("td", undefined, chosen ? { class: "chosen" } : {});
    const decides = run.shares ? share : probability;
    if (decides !== undefined) made.append(percent(decides));
    if (chosen) made.append(" ", element("span", "answered"));
    if (run.shares && probability !== undefined) {
      made.append(" ", element("small", `probability ${percent(probability)}`));
    }
    return made;
  };
  let waiting;
  for (const id of ["items-language", "items-outcome", "items-model", "items-adapter"]) {
    find(id).addEventListener("change", filter);
  }
  find("items-text").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 150);
  });
  find("items-more").addEventListener("click", () => {
    const first = find("items-list").children.length;
    more();
    const next = find("items-list").children[first];
    if (next) { next.tabIndex = -1; next.focus({ preventScroll: true }); }
  });
  find("items-browser").hidden = false;
  filter();
})();

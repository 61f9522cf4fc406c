"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const { columns, verdicts, rows } = JSON.parse(byId("data").textContent);
  const VERDICT = columns.findIndex((column) => column.kind === "verdict");
  const METHOD = columns.findIndex((column) => column.title === "settled by");
  const order = Object.keys(verdicts);
  const words = new Intl.Collator("en", { numeric: true });
  const state = { column: 0, up: true, page: 0, size: 25, method: "", search: "", verdicts: new Set(order) };
  let view = [];

  const texts = rows.map((row) => row.map((cell, i) => (i === VERDICT ? verdicts[cell] : cell ?? "")).join(" ").toLowerCase());

  const show = (value) => {
    if (value === null) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  };

  const compare = (a, b) => {
    const [x, y] = [rows[a][state.column], rows[b][state.column]];
    const [emptyX, emptyY] = [x === null || x === "", y === null || y === ""];
    if (emptyX || emptyY) return emptyX - emptyY || a - b;
    const kind = columns[state.column].kind;
    const sign = kind === "number" || kind === "id" ? x - y : kind === "verdict" ? order.indexOf(x) - order.indexOf(y) : words.compare(x, y);
    return (state.up ? sign : -sign) || a - b;
  };

  const select = () => {
    const wanted = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    view = [];
    rows.forEach((row, i) => {
      const kept = state.verdicts.has(row[VERDICT]) && (!state.method || row[METHOD] === state.method);
      if (kept && wanted.every((word) => texts[i].includes(word))) view.push(i);
    });
    view.sort(compare);
    state.page = 0;
    draw();
  };

  const cell = (row, column, i) => {
    const td = document.createElement("td");
    if (column.kind === "id") {
      td.textContent = row[i];
    } else if (column.kind === "number") {
      td.className = "n";
      td.textContent = show(row[i]);
    } else if (column.kind === "verdict") {
      const swatch = document.createElement("span");
      swatch.className = "swatch " + row[i];
      td.append(swatch, verdicts[row[i]]);
      td.className = "verdict";
    } else {
      td.textContent = row[i];
    }
    return td;
  };

  const draw = () => {
    const first = state.page * state.size;
    const last = Math.min(first + state.size, view.length);
    byId("table").tBodies[0].replaceChildren(
      ...view.slice(first, last).map((index) => {
        const tr = document.createElement("tr");
        tr.append(...columns.map((column, i) => cell(rows[index], column, i)));
        return tr;
      }),
    );
    const count = (value) => value.toLocaleString("en");
    const filtered = view.length === rows.length ? "" : `, filtered from ${count(rows.length)}`;
    byId("shown").textContent = view.length
      ? `${count(first + 1)} to ${count(last)} of ${count(view.length)} samples${filtered}`
      : `No sample matches${filtered}`;
    byId("previous").disabled = first === 0;
    byId("next").disabled = last >= view.length;
  };

  const heads = columns.map((column, i) => {
    const th = document.createElement("th");
    const button = document.createElement("button");
    th.scope = "col";
    if (column.kind === "number") th.className = "n";
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      state.up = state.column === i ? !state.up : true;
      state.column = i;
      mark();
      select();
    });
    th.append(button);
    return th;
  });

  const mark = () =>
    heads.forEach((th, i) => {
      if (i === state.column) th.setAttribute("aria-sort", state.up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });

  const turn = (by) => () => {
    state.page += by;
    draw();
  };

  for (const chip of document.querySelectorAll("[data-verdict]")) {
    chip.addEventListener("click", () => {
      const key = chip.dataset.verdict;
      if (!state.verdicts.delete(key)) state.verdicts.add(key);
      chip.setAttribute("aria-pressed", String(state.verdicts.has(key)));
      select();
    });
  }
  byId("method")?.addEventListener("change", (event) => {
    state.method = event.target.value;
    select();
  });
  byId("search").addEventListener("input", (event) => {
    state.search = event.target.value;
    select();
  });
  byId("size").addEventListener("change", (event) => {
    state.size = Number(event.target.value);
    state.page = 0;
    draw();
  });
  byId("previous").addEventListener("click", turn(-1));
  byId("next").addEventListener("click", turn(1));

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.previousElementSibling;
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }

  for (const cards of document.querySelectorAll("[data-paged]")) {
    const [all, size] = [[...cards.children], Number(cards.dataset.paged)];
    let first = 0;
    const bar = document.createElement("div");
    const told = document.createElement("p");
    const [back, on] = ["Previous", "Next"].map((text) => Object.assign(document.createElement("button"), { type: "button", textContent: text }));
    const lay = () => {
      all.forEach((card, i) => (card.hidden = i < first || i >= first + size));
      told.textContent = `${first + 1} to ${Math.min(first + size, all.length)} of ${all.length.toLocaleString("en")}`;
      [back.disabled, on.disabled] = [first === 0, first + size >= all.length];
    };
    back.addEventListener("click", () => { first -= size; lay(); });
    on.addEventListener("click", () => { first += size; lay(); });
    told.setAttribute("role", "status");
    bar.className = "turn";
    bar.append(told, back, on);
    if (all.length > size) cards.after(bar);
    lay();
  }

  const headRow = document.createElement("tr");
  headRow.append(...heads);
  byId("table").tHead.append(headRow);
  byId("controls").hidden = byId("pager").hidden = false;
  mark();
  select();
})();

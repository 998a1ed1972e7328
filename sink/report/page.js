"use strict";
(function () {
  var root = document.documentElement;
  root.classList.add("js");

  // Colours: what the system says, or what was pressed. Where nothing may be stored, it holds for this visit.
  var buttons = Array.prototype.slice.call(document.querySelectorAll("[data-theme]"));
  function remember(theme) { try { localStorage.setItem("taster-theme", theme); } catch (e) { return; } }
  function remembered() { try { return localStorage.getItem("taster-theme"); } catch (e) { return null; } }
  function colour(theme) {
    if (theme === "light" || theme === "dark") root.setAttribute("data-colours", theme); else root.removeAttribute("data-colours");
    buttons.forEach(function (b) { b.setAttribute("aria-pressed", String(b.dataset.theme === (theme || "auto"))); });
  }
  colour(remembered());
  buttons.forEach(function (b) {
    b.addEventListener("click", function () { colour(b.dataset.theme); remember(b.dataset.theme); });
  });

  var body = document.getElementById("rows");
  if (!body) return;
  var rows = Array.prototype.slice.call(body.rows).map(function (row, i) {
    var cells = row.cells, own = [cells[1], cells[2], cells[3], cells[4].querySelector(".excerpt"), cells[4].querySelector(".findings")];
    return { // searched is what the record says and what is said of it, not what its neighbours say
      row: row, first: i, text: own.map(function (e) { return e.textContent; }).join(" ").toLowerCase(), risk: parseFloat(row.dataset.risk),
      id: cells[1].textContent, provider: cells[2].textContent, attack: cells[3].textContent.trim(), excerpt: cells[4].querySelector(".excerpt").textContent,
      detectors: row.dataset.detectors.split(" "), codes: row.dataset.codes.split(" ")
    };
  });
  var form = document.querySelector(".filters"), shown = document.getElementById("shown");
  var q = document.getElementById("q"), detector = document.getElementById("by-detector");
  var provider = document.getElementById("by-provider"), reason = document.getElementById("by-reason");

  function filter() {
    var words = q.value.toLowerCase().split(/\s+/).filter(Boolean), n = 0;
    rows.forEach(function (r) {
      var keep = (!detector.value || r.detectors.indexOf(detector.value) >= 0) && (!provider.value || r.provider === provider.value) &&
        (!reason.value || r.codes.indexOf(reason.value) >= 0) && words.every(function (w) { return r.text.indexOf(w) >= 0; });
      r.row.hidden = !keep;
      if (keep) n++;
    });
    shown.textContent = n === rows.length ? n + " records" : n + " of " + rows.length + " records";
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", function (e) { e.preventDefault(); });
  form.addEventListener("reset", function () { setTimeout(filter, 0); });

  var heads = Array.prototype.slice.call(document.querySelectorAll("th[data-sort]"));
  function compare(by) {
    if (by === "risk") return function (a, b) { return a.risk - b.risk; };
    var key = by === "text" ? "excerpt" : by, order = new Intl.Collator(undefined, { numeric: true });
    return function (a, b) { return order.compare(a[key], b[key]); };
  }
  function sort(head) {
    var down = head.getAttribute("aria-sort") === "ascending" || !head.hasAttribute("aria-sort") && head.dataset.sort === "risk";
    var by = compare(head.dataset.sort);
    heads.forEach(function (h) { h.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort(function (a, b) { return (down ? by(b, a) : by(a, b)) || a.first - b.first; });
    var all = document.createDocumentFragment();
    rows.forEach(function (r) { all.appendChild(r.row); });
    body.appendChild(all);
  }
  heads.forEach(function (head) {
    var button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) button.appendChild(head.firstChild);
    button.addEventListener("click", function () { sort(head); });
    head.appendChild(button);
  });

  // A point of the map leads to its row, also when a filter hides it.
  function reveal() {
    var row = /^#r\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!row) return;
    if (row.hidden) { form.reset(); filter(); row.scrollIntoView(); }
    var details = row.querySelector("details");
    if (details) details.open = true;
  }
  window.addEventListener("hashchange", reveal);
  filter();
  reveal();
})();

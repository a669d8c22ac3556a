// The report's script: filters, highlighting, copying, local times. Without it everything is still on the page.
(function () {
  "use strict";
  var root = document.documentElement;
  function all(selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); }

  all(".needs-script").forEach(function (part) { part.hidden = false; });
  all("time").forEach(function (time) {
    var at = new Date(time.getAttribute("datetime"));
    if (!isNaN(at)) { time.title = at.toLocaleString() + " local time"; }
  });

  // ---- light and dark
  var toggle = document.querySelector("[data-theme-toggle]");
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }
  function showTheme() { toggle.setAttribute("aria-pressed", String(isDark())); }
  toggle.addEventListener("click", function () { root.dataset.theme = isDark() ? "light" : "dark"; showTheme(); });
  system.addEventListener("change", showTheme);
  showTheme();

  // ---- copying
  all("[data-copy]").forEach(function (button) {
    var label = button.querySelector(".sr"), said = label.textContent;
    button.addEventListener("click", function () {
      copy(button.dataset.copy).then(function () {
        button.classList.add("copied");
        label.textContent = "Copied";
        setTimeout(function () { button.classList.remove("copied"); label.textContent = said; }, 1500);
      }, function () { label.textContent = "The browser does not allow copying"; });
    });
  });
  function copy(text) {
    if (navigator.clipboard && window.isSecureContext) { return navigator.clipboard.writeText(text); }
    // Pages opened from disk have no clipboard in some browsers; the older way works there.
    var field = document.createElement("textarea");
    field.value = text;
    field.className = "sr";
    document.body.appendChild(field);
    field.select();
    var done = document.execCommand("copy");
    field.remove();
    return done ? Promise.resolve() : Promise.reject();
  }

  // ---- checks by outcome
  var outcomes = all("[data-outcome]");
  outcomes.forEach(function (button) {
    button.addEventListener("click", function () {
      var wanted = button.dataset.outcome;
      outcomes.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
      all("[data-outcome-group]").forEach(function (group) {
        group.hidden = wanted !== "" && group.dataset.outcomeGroup !== wanted;
        if (wanted === "passed") { all("details", group).forEach(function (fold) { fold.open = true; }); }
      });
    });
  });

  // ---- logs by text, level and step
  var form = document.querySelector("[data-log-filter]");
  if (form) {
    var lines = all(".log tbody tr").map(function (row) { return { row: row, text: row.textContent.toLowerCase() }; });
    var filter = function () {
      var text = form.elements.text.value.trim().toLowerCase(), level = form.elements.level.value, step = form.elements.step.value, shown = 0;
      lines.forEach(function (line) {
        var fits = (!level || line.row.dataset.level === level) && (!step || line.row.dataset.step === step) && line.text.indexOf(text) >= 0;
        line.row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      form.querySelector("[data-log-count]").textContent = shown + " shown";
    };
    form.addEventListener("input", filter);
    form.addEventListener("change", filter);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    // A browser may keep the fields' values over a reload.
    filter();
  }

  // ---- lineage: what a node comes from and what depends on it
  var graph = document.querySelector(".graph");
  if (graph) { lineage(graph); }
  function lineage(graph) {
    var steps = {}, readers = {}, makers = {}, nodes = {};
    function words(text) { return text ? text.split(" ") : []; }
    all("[data-step]", graph).forEach(function (node) {
      var step = { inputs: words(node.dataset.inputs), outputs: words(node.dataset.outputs) };
      steps[node.dataset.step] = step;
      nodes["step " + node.dataset.step] = node;
      step.inputs.forEach(function (name) { (readers[name] = readers[name] || []).push(node.dataset.step); });
      step.outputs.forEach(function (name) { makers[name] = node.dataset.step; });
    });
    all("[data-node]", graph).forEach(function (node) { nodes["dataset " + node.dataset.node] = node; });

    function upstream(key) {
      var name = key.slice(key.indexOf(" ") + 1);
      if (key.indexOf("step ") === 0) { return steps[name].inputs.map(function (input) { return "dataset " + input; }); }
      return name in makers ? ["step " + makers[name]] : [];
    }
    function downstream(key) {
      var name = key.slice(key.indexOf(" ") + 1);
      if (key.indexOf("step ") === 0) { return steps[name].outputs.map(function (output) { return "dataset " + output; }); }
      return (readers[name] || []).map(function (step) { return "step " + step; });
    }
    function reach(key, next) {
      var seen = {}, waiting = [key];
      while (waiting.length) {
        var at = waiting.pop();
        if (!seen[at]) { seen[at] = true; waiting = waiting.concat(next(at)); }
      }
      return seen;
    }
    function show(key) {
      var up = reach(key, upstream), down = reach(key, downstream);
      graph.classList.add("pointing");
      Object.keys(nodes).forEach(function (other) {
        nodes[other].classList.toggle("lit", Boolean(up[other] || down[other]));
        nodes[other].classList.toggle("picked", other === key);
      });
      all(".edges path", graph).forEach(function (edge) {
        var dataset = "dataset " + edge.dataset.dataset;
        var lit = words(edge.dataset.steps).some(function (step) { return (up[dataset] && up["step " + step]) || (down[dataset] && down["step " + step]); });
        edge.classList.toggle("lit", lit);
      });
    }
    function clear() { graph.classList.remove("pointing"); }
    Object.keys(nodes).forEach(function (key) {
      var node = nodes[key];
      node.addEventListener("mouseenter", function () { show(key); });
      node.addEventListener("focus", function () { show(key); });
      node.addEventListener("mouseleave", clear);
      node.addEventListener("blur", clear);
    });
  }

  // ---- a link to a step opens it
  function openTarget() {
    var target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") { target.open = true; }
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();
})();

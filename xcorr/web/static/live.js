// The progress of a running campaign: the page shows what the event stream says.
const box = document.getElementById("live");
if (box) {
  const put = (name, text) => { const at = box.querySelector(`[data-live=${name}]`); if (at) at.textContent = text; };
  const show = (state) => {
    const p = state.progress || {};
    put("running", state.running === "no" ? (p.state || "not running") : `running: ${state.running}`);
    put("phase", p.phase || "");
    put("left", p.seconds_left === undefined ? "" : `${Math.ceil(p.seconds_left)} s`);
    put("shards", p.shards === undefined ? "" : `${p.shards} of ${p.shards_expected}`);
    put("failed", p.failed === undefined ? "" : `${p.failed} failed inputs, ${p.skipped || 0} skipped items`);
    const bars = box.querySelector("[data-live=items]");
    if (bars && p.expected) {
      bars.replaceChildren(...Object.entries(p.expected).map(([name, all]) => {
        const row = document.createElement("div"), bar = document.createElement("progress");
        bar.max = all; bar.value = Math.min((p.items || {})[name] || 0, all);
        bar.setAttribute("aria-label", name);
        row.append(bar, ` ${name} ${(p.items || {})[name] || 0} of ${all}`);
        return row;
      }));
    }
  };
  const source = new EventSource(box.dataset.events);
  source.addEventListener("progress", (event) => show(JSON.parse(event.data)));
  source.addEventListener("results", () => { document.getElementById("new-results").hidden = false; });
}

// The stack of a pair, to be looked at closely: drag to zoom, double click to see all.
const plot = document.getElementById("plot");
if (plot) {
  fetch(plot.dataset.json, { headers: { Accept: "application/json" } }).then((answer) => answer.json()).then((found) => {
    const low = found.values.map((v, k) => v - 2 * (found.std_error[k] || 0));
    const high = found.values.map((v, k) => v + 2 * (found.std_error[k] || 0));
    const made = new uPlot({
      width: plot.clientWidth, height: 300,
      scales: { x: { time: false } },
      axes: [{ label: "lag (s)" }, { label: found.units === "1" ? "correlation" : `correlation (${found.units})`, size: 80 }],
      series: [{ label: "lag" }, { label: "stack", stroke: "#111", width: 1 },
        { label: "+2 errors", stroke: "#7a9cc0" }, { label: "-2 errors", stroke: "#7a9cc0" }],
      bands: [{ series: [2, 3], fill: "#c9d8e8" }],
    }, [found.lag_s, found.values, high, low], plot);
    plot.querySelector("img")?.remove();
    plot.dataset.drawn = "1";
    addEventListener("resize", () => made.setSize({ width: plot.clientWidth, height: 300 }));
  });
}

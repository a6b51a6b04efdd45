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
      series: [{ label: "lag" }, { label: "+2 errors", stroke: "#c9d8e8" }, { label: "-2 errors", stroke: "#c9d8e8" },
        { label: "stack", stroke: "#111", width: 1 }],
      bands: [{ series: [1, 2], fill: "#dbe6f1" }],
    }, [found.lag_s, high, low, found.values], plot);
    plot.querySelector("img")?.remove();
    plot.dataset.drawn = "1";
    addEventListener("resize", () => made.setSize({ width: plot.clientWidth, height: 300 }));
  });
}

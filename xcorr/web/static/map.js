// Coastlines and borders under the stations of a map, in the projection that its frame describes.
const map = document.getElementById("map");
if (map) {
  const frame = JSON.parse(map.dataset.frame);
  const [width, height] = [map.viewBox.baseVal.width, map.viewBox.baseVal.height];
  const scale = width / frame.degrees[0];
  const middle = frame.west + frame.degrees[0] / frame.shrink / 2;
  const radians = Math.PI / 180;
  const projection = d3.geoProjection((x, y) => [x * frame.shrink, y])
    .rotate([-middle, 0]).scale(scale / radians).precision(0.1)
    .translate([width / 2, frame.north * scale]).clipExtent([[-1, -1], [width + 1, height + 1]]);
  fetch(map.dataset.land).then((answer) => answer.json()).then((world) => {
    const path = d3.geoPath(projection);
    const land = document.createElementNS("http://www.w3.org/2000/svg", "path");
    land.setAttribute("d", path(topojson.feature(world, world.objects.countries)) || "");
    document.getElementById("land").append(land);
    map.dataset.drawn = "1";
  });
}
// A row of the table and its stations on the map show each other.
for (const row of document.querySelectorAll("tr[data-stations]")) {
  const marks = row.dataset.stations.split(" ").flatMap((name) =>
    [...document.querySelectorAll(`[data-station="${CSS.escape(name)}"]`)]);
  const mark = (on) => () => marks.forEach((m) => m.classList.toggle("on", on));
  for (const [event, on] of [["mouseenter", true], ["focusin", true], ["mouseleave", false], ["focusout", false]]) {
    row.addEventListener(event, mark(on));
  }
}

"use strict";
// Plots are drawn when they come into sight, so that a page with hundreds of them opens at once; before printing all are.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();

  const ground = (ink, line) => ({
    "font.color": ink,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    "xaxis.gridcolor": line,
    "yaxis.gridcolor": line,
    "xaxis.zerolinecolor": line,
    "yaxis.zerolinecolor": line,
  });
  let printing = false;
  const theme = () => (dark.matches && !printing ? ground("#e8eaed", "#363c44") : ground("#1b1f24", "#d5d9df"));

  const draw = (box) => {
    if (drawn.has(box)) return;
    drawn.add(box);
    const figure = figures[Number(box.dataset.plot)];
    const layout = {
      ...figure.layout,
      margin: { l: 70, r: 10, t: 10, b: 45 },
      hovermode: "closest",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      font: { family: "system-ui, sans-serif", size: 13 },
    };
    Plotly.newPlot(box, figure.data, layout, { responsive: true, displayModeBar: false }).then(() => Plotly.relayout(box, theme()));
  };

  // A plot that is still being drawn takes its colours when it is done.
  const restyle = () => drawn.forEach((box) => { if (box.layout) Plotly.relayout(box, theme()); });

  const boxes = document.querySelectorAll(".plot");
  if (boxes.length === 0) return;
  const watcher = new IntersectionObserver(
    (seen) => seen.filter((each) => each.isIntersecting).forEach((each) => {
      watcher.unobserve(each.target);
      draw(each.target);
    }),
    { rootMargin: "300px" },
  );
  boxes.forEach((box) => watcher.observe(box));
  dark.addEventListener("change", () => restyle());

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((each) => { each.open = true; });
    printing = true;
    restyle();
    boxes.forEach(draw);
  });
  addEventListener("afterprint", () => {
    opened.forEach((each) => { each.open = false; });
    printing = false;
    restyle();
  });
})();

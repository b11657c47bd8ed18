"use strict";
// Draws the plots; the tables beside them have the same numbers, and stay open where this script does not run.
(() => {
  const sizes = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  const ticks = [0, 7, 14, 30, 60, 90, 180, 365, 730, 1825, 3650];
  const binary = Array.from({ length: 63 }, (_, power) => 2 ** power);
  const day = 86400;
  const shapes = [[], [7, 4], [2, 3], [9, 3, 2, 3], [4, 4], [12, 4]];

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const count = (value, noun) => `${value.toLocaleString("en")} ${noun}${value === 1 ? "" : "s"}`;

  function size(bytes) {
    let step = 0;
    while (bytes >= 1024 && step < sizes.length - 1) {
      bytes /= 1024;
      step += 1;
    }
    return `${step ? bytes.toFixed(1) : bytes} ${sizes[step]}`;
  }

  const short = (bytes) => size(bytes).replace(".0 ", " ");
  const date = (number, form) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...form }).format(number * day * 1000);
  const place = (age) => Math.log(age + 3);

  function inWords(series, index) {
    const value = series.values[index];
    if (value === null || value === undefined) return "no sample";
    if (series.unit !== "bytes") return count(value, series.unit);
    const more = series.more && series.more[index];
    return more === null || more === undefined ? size(value) : `${size(value)} in ${count(more, "item")}`;
  }

  function color(plot, number) {
    const series = plot.series[number];
    if (plot.kind === "time") return series.look === "line" && number ? style(`--c${(number % 6) + 1}`) : style("--accent");
    if (plot.kind === "ages" && number === plot.series.length - 1 && number) return style("--ink");
    return style(`--c${(number % 6) + 1}`);
  }

  const dash = (plot, number) =>
    plot.series[number].look === "dashed" ? [6, 4] : plot.series[number].look === "line" && plot.kind !== "bars" ? shapes[number % 6] : [];

  function swatch(plot, number) {
    const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const bars = plot.series[number].look === "bars";
    const line = document.createElementNS(drawing.namespaceURI, "line");
    for (const [name, value] of Object.entries({ x1: 0, x2: 22, y1: 6, y2: 6, "stroke-width": bars ? 9 : 2.5 })) {
      line.setAttribute(name, value);
    }
    line.setAttribute("stroke", color(plot, number));
    line.setAttribute("stroke-dasharray", dash(plot, number).join(" ") || "none");
    drawing.setAttribute("viewBox", "0 0 22 12");
    drawing.setAttribute("aria-hidden", "true");
    drawing.append(line);
    return drawing;
  }

  const label = (plot, index) =>
    plot.kind === "ages" ? count(plot.x[index], "day") : date(plot.x[index], { day: "numeric", month: "long", year: "numeric" });

  // The point that a plot opens at: today's setting, or the newest value.
  function first(plot) {
    if (plot.kind === "ages") return plot.marks.length ? plot.x.indexOf(plot.marks[0][1]) : plot.x.findIndex((age) => age >= 30);
    for (let index = plot.x.length - 1; index > 0; index -= 1) {
      if (plot.series[0].values[index] !== null) return index;
    }
    return 0;
  }

  function describe(figure, plot, index) {
    const caption = figure.querySelector("figcaption");
    const parts = plot.series
      .map((series, number) => [series, number])
      .filter(([series]) => plot.kind === "ages" || (series.values[index] ?? null) !== null)
      .filter(([series]) => series.look === "line" || series.look === "bars" || plot.series[0].values[index] === null);
    const title = document.createElement("strong");
    title.textContent = label(plot, index);
    caption.replaceChildren(title);
    const words = [];
    for (const [series, number] of parts) {
      const entry = document.createElement("span");
      const text = `${series.label}: ${inWords(series, index)}`;
      if (series.look !== "bound") entry.append(swatch(plot, number));
      entry.append(text);
      caption.append(entry);
      words.push(text);
    }
    if (!parts.length) caption.append(plot.kind === "bars" ? "no pass" : "no sample");
    const slider = figure.querySelector(".canvas");
    slider.setAttribute("aria-valuenow", index);
    slider.setAttribute("aria-valuetext", `${label(plot, index)}: ${words.join("; ") || "nothing"}`);
  }

  function axes(plot) {
    const common = { stroke: () => style("--quiet"), grid: { stroke: () => style("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const bytes = plot.series[0].unit === "bytes";
    const years = plot.x[plot.x.length - 1] - plot.x[0] > 330;
    const bottom =
      plot.kind === "ages"
        ? { splits: () => ticks.filter((age) => age <= plot.x[plot.x.length - 1]).map(place), values: (self, at) => at.map((value) => (value === null ? "" : `${Math.round(Math.exp(value) - 3)} d`)), space: 34, filter: (self, at) => spread(self, at) }
        : { values: (self, at) => at.map((value) => (value % day ? "" : date(value / day, years ? { month: "short", year: "numeric" } : { day: "numeric", month: "short" }))), incrs: [1, 2, 7, 14, 28, 61, 92, 183, 366].map((days) => days * day), space: years ? 64 : 50 };
    return [
      { ...common, grid: { show: false }, size: 28, ...bottom },
      { ...common, size: 66, space: 34, incrs: bytes ? binary : [1, 2, 5, 10, 20, 50].flatMap((step) => [0, 1, 2, 3, 4, 5, 6, 7].map((power) => step * 10 ** power)).sort((a, b) => a - b), values: (self, at) => at.map((value) => (bytes ? short(value) : value.toLocaleString("en"))) },
    ];
  }

  // Leaves out labels that would touch.
  function spread(self, at) {
    let last = -Infinity;
    return at.map((value) => {
      const x = self.valToPos(value, "x");
      if (x - last < 36) return null;
      last = x;
      return value;
    });
  }

  function clip(label) {
    const letters = [...label];
    return letters.length > 24 ? `${letters.slice(0, 23).join("")}…` : label;
  }

  function marks(plot) {
    return (self) => {
      const context = self.ctx;
      const ratio = uPlot.pxRatio;
      context.save();
      context.font = `${12 * ratio}px system-ui, sans-serif`;
      const words = [];
      plot.marks.forEach(([number, age], row) => {
        const x = self.valToPos(place(age), "x", true);
        const y = self.valToPos(plot.series[number].values[plot.x.indexOf(age)], "y", true);
        context.strokeStyle = context.fillStyle = color(plot, number);
        context.setLineDash([4 * ratio, 4 * ratio]);
        context.lineWidth = ratio;
        context.beginPath();
        context.moveTo(x, self.bbox.top);
        context.lineTo(x, self.bbox.top + self.bbox.height);
        context.stroke();
        context.setLineDash([]);
        context.beginPath();
        context.arc(x, y, 4 * ratio, 0, 2 * Math.PI);
        context.fill();
        const text = `${clip(plot.series[number].label)}: ${age} d`;
        const left = x + context.measureText(text).width + 8 * ratio > self.bbox.left + self.bbox.width;
        words.push([left, context.fillStyle, [text, x + (left ? -6 : 6) * ratio, self.bbox.top + (14 + row * 16) * ratio]]);
      });
      // After the lines of all marks, which would strike them out.
      for (const [left, ink, spot] of words) {
        context.textAlign = left ? "right" : "left";
        context.strokeStyle = style("--card");
        context.lineWidth = 5 * ratio;
        context.lineJoin = "round";
        context.strokeText(...spot);
        context.fillStyle = ink;
        context.fillText(...spot);
      }
      context.restore();
    };
  }

  function draw(figure, plot) {
    const canvas = figure.querySelector(".canvas");
    const x = plot.x.map((value) => (plot.kind === "ages" ? place(value) : value * day));
    const bars = uPlot.paths.bars({ size: [0.75, 40] });
    let shown = first(plot);
    const bounds = plot.band ? [plot.series.length - 1, plot.series.length] : null;
    const chart = new uPlot(
      {
        width: canvas.clientWidth,
        height: canvas.clientHeight,
        tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1e3), "Etc/UTC"),
        legend: { show: false },
        padding: [8, 22, 0, 0],
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
        scales: { x: { time: plot.kind !== "ages", range: (self, low, high) => (low === high ? [low - day * 15, high + day * 15] : plot.kind === "bars" ? [low - day / 2, high + day / 2] : [low, high]) }, y: { range: (self, low, high) => [0, Math.max(high * 1.06, 1)] } },
        axes: axes(plot),
        bands: bounds ? [{ series: bounds, fill: () => `${style("--accent")}26` }] : [],
        series: [
          {},
          ...plot.series.map((series, number) => ({
            label: series.label,
            stroke: series.look === "bound" ? "transparent" : () => color(plot, number),
            fill: series.look === "bars" ? () => color(plot, number) : series.look === "line" && plot.kind === "time" && !number ? () => `${style("--accent")}1f` : undefined,
            width: series.look === "bars" ? 0 : 2,
            dash: dash(plot, number),
            points: { show: plot.kind === "ages" || series.look !== "line" ? false : undefined, size: 4 },
            paths: series.look === "bars" ? bars : uPlot.paths.linear(),
          })),
        ],
        hooks: {
          draw: plot.marks.length ? [marks(plot)] : [],
          setCursor: [
            (self) => {
              const index = self.cursor.idx;
              shown = index === null || index === undefined || self.cursor.left < 0 ? shown : index;
              describe(figure, plot, shown);
            },
          ],
        },
      },
      [x, ...plot.series.map((series) => series.values)],
      canvas,
    );
    describe(figure, plot, shown);

    const move = (index) => {
      shown = Math.min(Math.max(index, 0), plot.x.length - 1);
      chart.setCursor({ left: chart.valToPos(x[shown], "x"), top: 10 });
      describe(figure, plot, shown);
    };
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
      if (event.key in steps) {
        event.preventDefault();
        move(shown + steps[event.key]);
      }
    });
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && move(shown));
    canvas.addEventListener("mouseleave", () => {
      shown = first(plot);
      describe(figure, plot, shown);
    });
    new ResizeObserver(() => {
      if (canvas.clientWidth) chart.setSize({ width: canvas.clientWidth, height: canvas.clientHeight });
    }).observe(canvas);
    return () => {
      chart.redraw(false, true);
      describe(figure, plot, shown);
    };
  }

  const redraws = [];
  for (const [id, plot] of Object.entries(JSON.parse(document.getElementById("data").textContent))) {
    const figure = document.getElementById(id);
    figure.hidden = false;
    redraws.push(draw(figure, plot));
  }
  for (const details of document.querySelectorAll("details")) {
    details.open = false;
  }
  const redraw = () => redraws.forEach((one) => one());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.documentElement.classList.toggle("printing", printing);
      redraw();
    });
  }
})();

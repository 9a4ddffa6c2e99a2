// Cells of the runs grid. Numbers arrive written (…_text) with all their digits (…_title) beside them.
const dagcomponentfuncs = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
const h = (...parts) => React.createElement(...parts);
const absent = () => h("span", { className: "absent" }, "–");

dagcomponentfuncs.RunCell = ({ data }) =>
  h("div", { className: "cell-stack" }, [
    h("a", { key: "n", href: `/runs/${data.id}`, "data-route": "", className: "run-link", title: data.name }, data.name),
    h("span", { key: "a", className: "cell-note", title: data.about }, data.about),
  ]);

dagcomponentfuncs.RunStateCell = ({ data }) => {
  const percent = data.fraction === null ? null : Math.floor(100 * data.fraction);
  return h("div", { className: "cell-stack" }, [
    h("span", { key: "s", className: "cell-state" }, [
      h("span", { key: "d", className: `state-dot ${data.state.toLowerCase()}`, "aria-hidden": true }),
      h("span", { key: "w" }, data.state_word),
      percent === null ? null : h("span", { key: "p", className: "cell-percent" }, `${percent} %`),
    ]),
    percent === null
      ? null
      : h(
          "div",
          { key: "b", className: "progress", role: "progressbar", "aria-valuenow": percent, "aria-label": data.name },
          h("span", { style: { width: `${percent}%` } }),
        ),
    h("span", { key: "n", className: "cell-note", title: data.state_note }, data.state_note),
  ]);
};

// A long recipe is called by its label; the title has the whole name.
const badge = ({ name, label, level }) =>
  level
    ? h("span", { key: name, className: `verdict ${level}`, title: `${name}: ${level}` }, [
        h("span", { key: "i", className: `icon icon-verdict-${level}`, style: { width: 12, height: 12 }, "aria-hidden": true }),
        h("span", { key: "v", className: "verdict-variant" }, label || name),
        h("span", { key: "l" }, level),
      ])
    : h("span", { key: name, className: "verdict pending", title: `${name}: not given yet` }, `${label || name} …`);

// As many badges as two lines hold; the rest is counted, and named on hover.
dagcomponentfuncs.VerdictsCell = ({ data }) => {
  const place = React.useRef(null);
  const [shown, setShown] = React.useState(data.verdicts.length);
  const names = data.verdicts.map(({ name, level }) => `${name}:${level}`).join();
  React.useLayoutEffect(() => {
    const fit = () => {
      const badges = [...place.current.querySelectorAll(".verdict")];
      badges.forEach((item) => (item.style.display = ""));
      const width = place.current.clientWidth;
      const widths = badges.map((item) => item.offsetWidth + 4);
      let [line, used, count] = [0, 0, 0];
      for (const [index, needed] of widths.entries()) {
        const rest = widths.length - index - 1;
        if (used + needed > width + 4) [line, used] = [line + 1, 0];
        if (line > 1 || (line === 1 && rest > 0 && used + needed + 34 > width)) break;
        used += needed;
        count += 1;
      }
      badges.slice(count).forEach((item) => (item.style.display = "none"));
      setShown(count);
    };
    fit();
    const observer = new ResizeObserver(fit);
    observer.observe(place.current);
    return () => observer.disconnect();
  }, [names]);
  const hidden = data.verdicts.slice(shown).map(({ name, level }) => `${name} ${level || "…"}`);
  return h("div", { className: "cell-badges", ref: place }, [
    ...data.verdicts.map(badge),
    hidden.length ? h("span", { key: "+", className: "more", title: hidden.join(", ") }, `+${hidden.length}`) : null,
  ]);
};

dagcomponentfuncs.VariantCell = ({ data }) =>
  data.variant
    ? h("span", { className: "variant-name", title: data.variant }, [
        data.swatch ? h("span", { key: "s", className: "swatch", style: data.swatch, "aria-hidden": true }) : null,
        h("span", { key: "n", className: "cut" }, data.variant_label || data.variant),
      ])
    : absent();

dagcomponentfuncs.NumberCell = ({ data, colDef }) =>
  data[colDef.field] === null
    ? absent()
    : h("span", { className: "num", title: data[`${colDef.field}_title`] }, data[`${colDef.field}_text`]);

// A bar from 1 ×: on a logarithmic scale, so that 1.4 × is seen beside 20 ×.
dagcomponentfuncs.RatioCell = ({ data }) => {
  const ratio = data.sharpness_ratio;
  if (ratio === null) return absent();
  const width = Math.max(1, Math.min(30, 10 * Math.log2(Math.max(ratio, 1))));
  return h("span", { className: "num ratio", title: data.sharpness_ratio_title }, [
    h("span", { key: "b", className: "ratio-bar swatch", style: { ...data.swatch, "--dash": "currentColor", width } }),
    h("span", { key: "t" }, data.sharpness_ratio_text),
  ]);
};

dagcomponentfuncs.TagsCell = ({ data }) =>
  h(
    "div",
    { className: "cell-tags", title: data.tags.join(", ") },
    data.tags.map((tag) => h("span", { key: tag, className: "tag" }, tag)),
  );

dagcomponentfuncs.OwnerCell = ({ data }) => h("span", { className: "avatar", title: data.owner }, data.initials);

dagcomponentfuncs.AgeCell = ({ data }) =>
  h("span", { className: "num", title: new Date(data.created_at).toLocaleString() }, data.age);

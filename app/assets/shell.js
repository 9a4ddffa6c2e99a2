// The frame: marks where we are, tells Dash the colour scheme, and serves the keyboard.
(() => {
  const root = document.documentElement;
  const scheme = () => (root.getAttribute("data-mantine-color-scheme") === "dark" ? "dark" : "light");

  let entered = false;

  const tellScheme = () => {
    if (window.dash_clientside?.set_props && document.getElementById("page")) {
      dash_clientside.set_props("color-scheme", { data: scheme() });
    }
  };
  new MutationObserver(tellScheme).observe(root, { attributes: true, attributeFilter: ["data-mantine-color-scheme"] });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    quantLensShell: {
      // facts: {name, section, title} of the page that has just been drawn
      enter(facts) {
        const { name = "", section = "", title = "Not found" } = facts || {};
        document.body.dataset.page = name;
        document.title = title ? `${title} · Quant Lens` : "Quant Lens";
        document.querySelectorAll(".nav-link").forEach((link) => {
          if (link.id === `nav-${section}`) link.setAttribute("aria-current", "page");
          else link.removeAttribute("aria-current");
        });
        tellScheme();
        // After a change of page a screen reader, and the Tab key, go on from the new page.
        if (entered) document.getElementById("page").focus({ preventScroll: true });
        entered = true;
        const place = location.hash && document.getElementById(location.hash.slice(1));
        if (place) place.scrollIntoView();
        return title;
      },
    },
  });

  // A control says which key works it: data-key="n". Letters never reach us from a field that is being typed in.
  const typing = (target) =>
    target.closest?.("input:not([type='checkbox'], [type='radio']), textarea, select, [contenteditable='true']");
  const visible = (element) => element.getClientRects().length > 0;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && typing(event.target) && event.target.dataset.escape === "blur") event.target.blur();
    const command = event.ctrlKey && event.key === "Enter"; // works while typing, too
    if (event.altKey || event.metaKey || (!command && (event.ctrlKey || typing(event.target)))) return;
    if (event.target.closest?.("[role='dialog'], [role='menu']")) return;
    const key = command ? "ctrl+enter" : event.key.toLowerCase();
    const control = [...document.querySelectorAll("[data-key]")].find((c) => c.dataset.key === key && visible(c));
    if (!control || control.disabled) return;
    event.preventDefault();
    const field = control.matches("input") ? control : control.querySelector("input");
    if (field) {
      field.focus();
      return;
    }
    if (command) document.activeElement?.blur(); // what is being typed belongs to what is done
    setTimeout(() => control.click(), command ? 50 : 0);
  });

  // Links between our pages (components/route_link.py) change the address and let Dash's router draw.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-route]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    if (link.href === location.href) return;
    history.pushState({}, "", link.getAttribute("href"));
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    window.scrollTo(0, 0);
  });

  // data-copy holds text for the clipboard; the button says that it is done.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const text = button.dataset.copy === "address" ? location.href : button.dataset.copy;
    const done = await copy(text);
    button.dataset.copied = done ? "yes" : "no";
    setTimeout(() => delete button.dataset.copied, 1600);
  });

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (error) {
      // plain HTTP on a LAN has no clipboard API
      const field = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }
})();

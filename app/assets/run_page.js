/* The Run page: its address says which tab is shown and how its charts are drawn, and times say how long ago they were. */
(function () {
    "use strict";

    // Of each switch the parameter of the address, and what it says unless someone chooses.
    const PARAMETERS = {
        "run-tab": ["tab", "overview"], "run-landscape": ["landscape", "smooth"], "run-density": ["density", "log"],
        "run-lambda": ["lambda", "linear"], "run-layers": ["layers", "trace"],
        "run-plane-landscape": ["plane", "smooth"], "run-pair": ["pair"], "run-network": ["network"],
        "run-loss-scale": ["scale", "log"], "run-colours": ["colours", "run"], "run-plane-clip": ["clip"],
        "run-shown": ["show", "points,path,isolines"], "run-view": ["view", "flat"],
        "run-line-landscape": ["lines", "smooth"], "run-line-kind": ["along"], "run-quantity": ["quantity", "loss"],
        "run-band": ["band", "band"], "run-line-scale": ["axis", "log"], "run-line-clip": ["cut"],
        "run-variant": ["variant"], "run-outliers": ["outliers", "share"], "run-range": ["range", "value"],
        "run-layer": ["layer", ""],
    };
    // Where the usual choice is the first of those that there are.
    const word = (value) => (Array.isArray(value) ? value.join(",") || "none" : String(value ?? ""));
    const first = (choices) => word((choices || [])[0]?.value ?? (choices || [])[0]);

    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        quantLensRun: {
            remember() {
                const { inputs_list: switches, states } = window.dash_clientside.callback_context;
                if (window.location.pathname.startsWith("/runs/")) {
                    const query = new URLSearchParams(window.location.search);
                    for (const { id, value } of switches) {
                        const [parameter, usual = first(states[`${id}.data`])] = PARAMETERS[id];
                        const said = word(value);
                        if (said && said !== usual) query.set(parameter, said);
                        else query.delete(parameter);
                    }
                    const search = query.toString() ? `?${query}` : "";
                    if (search !== window.location.search) {
                        history.replaceState(history.state, "", `${window.location.pathname}${search}`);
                    }
                }
                return window.dash_clientside.no_update;
            },
        },
    });

    function ago(iso) {
        const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
        if (Number.isNaN(seconds)) return null;
        if (seconds < 60) return "just now";
        if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
        if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
        return `${Math.floor(seconds / 86400)} d ago`;
    }

    function tellTimes() {
        for (const place of document.querySelectorAll("time[data-ago]")) {
            const text = ago(place.dataset.ago);
            if (text && place.textContent !== text) place.textContent = text;
        }
    }

    // The buttons that do something to the run (header.py's run_act). Drawing one again loses no click: it is kept here.
    document.addEventListener("click", (event) => {
        const button = event.target.closest?.("[data-act]");
        if (!button || button.disabled || button.dataset.disabled) return;
        const { act, of } = button.dataset;
        window.dash_clientside.set_props("run-asked", { data: { act, of, at: Date.now() } });
    });

    setInterval(tellTimes, 10000);
    let asked = false;
    new MutationObserver(() => {
        if (asked) return;
        asked = true;
        requestAnimationFrame(() => {
            asked = false;
            tellTimes();
        });
    }).observe(document.documentElement, { childList: true, subtree: true });
})();

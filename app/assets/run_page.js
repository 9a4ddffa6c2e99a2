/* The Run page: its address says which tab is shown and how its charts are drawn, and times say how long ago they were. */
(function () {
    "use strict";

    const DEFAULTS = {
        tab: "overview", landscape: "smooth", density: "log", lambda: "linear", layers: "trace",
        outliers: "share", range: "value", layer: "", plane: "smooth", scale: "log", colours: "run", view: "flat",
    };

    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        quantLensRun: {
            remember(
                tab, landscape, density, lambda, layers, plane, pair, network, scale, colours, view,
                variant, outliers, range, layer, variants, pairs, networks,
            ) {
                if (window.location.pathname.startsWith("/runs/")) {
                    const query = new URLSearchParams(window.location.search);
                    const chosen = {
                        tab, landscape, density, lambda, layers, plane, pair, network, scale, colours, view,
                        variant, outliers, range, layer,
                    };
                    const usual = {
                        ...DEFAULTS, variant: (variants || [])[0], pair: ((pairs || [])[0] || {}).value,
                        network: (networks || [])[0],
                    };
                    for (const [key, value] of Object.entries(chosen)) {
                        if (value && value !== usual[key]) query.set(key, value);
                        else query.delete(key);
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

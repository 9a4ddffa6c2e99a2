/* The New page's address always says what is chosen, so that a reload or a shared link opens the same draft. */
(function () {
    "use strict";
    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        quantLensNew: {
            remember(query) {
                if (typeof query === "string" && window.location.pathname === "/new") {
                    const search = query ? `?${query}` : "";
                    if (search !== window.location.search) history.replaceState(history.state, "", `/new${search}`);
                }
                return window.dash_clientside.no_update;
            },
        },
    });
})();

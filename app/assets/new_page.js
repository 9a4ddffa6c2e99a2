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

    // "n more" of a column of schemes. Nothing is asked of the server: the rows are there, and CSS shows them.
    document.addEventListener("click", (event) => {
        const button = event.target.closest?.("[data-ql-more]");
        if (!button) return;
        const open = button.getAttribute("aria-expanded") !== "true";
        button.setAttribute("aria-expanded", String(open));
        button.closest(".ql-scheme-group").toggleAttribute("data-open", open);
    });
})();

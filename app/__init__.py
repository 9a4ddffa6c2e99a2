"""The web application: pages, REST and uploads. No torch in its process, ever."""

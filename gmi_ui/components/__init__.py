"""The page's own components: one folder each, with its html, css and script."""

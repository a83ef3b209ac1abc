/* What the theme leaves out for keyboards and screen readers. */
addEventListener("DOMContentLoaded", () => {
  const names = {
    ".sidebar-drawer": "Pages of this documentation",
    ".toc-drawer": "Contents of this page",
  };
  for (const [selector, name] of Object.entries(names)) {
    document.querySelector(selector)?.setAttribute("aria-label", name);
  }
  const tools = document.querySelector(".content-icon-container");
  tools?.setAttribute("role", "region");
  tools?.setAttribute("aria-label", "Tools for this page");
  for (const caption of document.querySelectorAll('[role="heading"]:not([aria-level])')) {
    caption.setAttribute("aria-level", "2");
  }
  // In a table that is too wide, long names break; in all others they stay whole.
  for (const table of document.querySelectorAll(".table-wrapper")) {
    if (table.scrollWidth > table.clientWidth) table.classList.add("breaks");
  }
  // A block that scrolls must be reachable by the keyboard.
  for (const block of document.querySelectorAll("pre, .table-wrapper")) {
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
  }
});

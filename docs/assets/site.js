// Tables that are scrolled sideways are reached by keyboard; the theme, which wraps them, sees to code.
function reach() {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, .drawing")) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }
}
new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
reach();

// What is scrolled sideways can be reached by keyboard.
for (const wide of document.querySelectorAll("pre > code, .md-typeset__scrollwrap, .drawing")) {
  if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
}

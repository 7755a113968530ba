for (const table of document.querySelectorAll("table.sortable")) {
  const value = (row, i) => row.cells[i].textContent.trim();
  const number = (text) => parseFloat(text.replaceAll(",", ""));
  table.querySelectorAll("thead th").forEach((head, i) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => {
        const [x, y] = [value(a, i), value(b, i)];
        const [m, n] = [number(x), number(y)];
        if (i === 0) return down ? x.localeCompare(y) : y.localeCompare(x);
        if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n);
        return down ? n - m : m - n;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
}
for (const wide of document.querySelectorAll(".wide")) {
  const mark = () => wide.toggleAttribute("data-more", wide.scrollWidth - wide.clientWidth - wide.scrollLeft > 4);
  wide.addEventListener("scroll", mark);
  new ResizeObserver(mark).observe(wide);
}

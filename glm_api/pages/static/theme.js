// A classic script in the head: it runs before the first paint, so a chosen theme never flashes the other one.
try {
  const { theme } = JSON.parse(localStorage.getItem("glm.preferences") ?? "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked or spoiled: the system's theme applies.
}

// A classic script in the head runs before the first paint, so the page never flashes in the wrong theme.
try {
  const { theme } = JSON.parse(localStorage.getItem("glm.preferences") ?? "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // The storage is blocked or broken, so the system's theme applies.
}

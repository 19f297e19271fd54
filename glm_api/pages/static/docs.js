/** The API reference: Swagger UI with this server's OpenAPI document. */

const { SwaggerUIBundle } = /** @type {any} */ (window);

const system = window.matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const { theme } = document.documentElement.dataset;
  document.documentElement.classList.toggle("dark-mode", theme ? theme === "dark" : system.matches);
}

system.addEventListener("change", applyTheme);
applyTheme();

SwaggerUIBundle({
  dom_id: "#reference",
  url: "openapi.json",
  deepLinking: true,
  // The validator badge would ask another origin.
  validatorUrl: null,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});

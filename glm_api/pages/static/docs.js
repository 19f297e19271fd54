/** The API reference: Swagger UI on the document that this server serves. */

const { SwaggerUIBundle } = /** @type {any} */ (window);

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

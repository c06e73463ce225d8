import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { OpenApiDocument, OpenApiOperation } from './openapi.ts';

type Html = ReturnType<typeof html>;

/** A page and the policy under which a browser shows it: one known style sheet and nothing else, no script at all. */
export interface ReferencePage {
  readonly body: string;
  readonly contentSecurityPolicy: string;
}

/** The browsable reference of the API, made of its OpenAPI document. */
export async function buildReferencePage(document: OpenApiDocument): Promise<ReferencePage> {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <title>${String(document.info['title'])}</title>
        ${raw(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <h1>${String(document.info['title'])} <small>${String(document.info['version'])}</small></h1>
        <p>${String(document.info['description'])}</p>
        <p>The same as a document for programs: <a href="/openapi.json">/openapi.json</a></p>
        <nav>${document.tags.map(({ name }) => html`<a href="#${name}">${name}</a> `)}</nav>
        ${document.tags.map(
          ({ name }) =>
            html`<section id="${name}">
              <h2>${name}</h2>
              ${operations
                .filter(({ operation }) => operation.tags.includes(name))
                .map(({ path, method, operation }) => operationHtml(path, method, operation))}
            </section>`,
        )}
      </body>
    </html>`;
  const styleHash = createHash('sha256').update(STYLE).digest('base64');
  return {
    body: (await page).toString(),
    contentSecurityPolicy: `default-src 'none'; style-src 'sha256-${styleHash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  };
}

function operationHtml(path: string, method: string, operation: OpenApiOperation): Html {
  return html`<details id="${operation.operationId}">
    <summary><b>${method.toUpperCase()}</b> <code>${path}</code> ${operation.summary}</summary>
    <p>${operation.description}</p>
    ${operation.parameters.length === 0 ? '' : parametersHtml(operation.parameters)}
    ${operation.requestBody === undefined ? '' : jsonHtml('Body', operation.requestBody['content'])}
    ${Object.entries(operation.responses).map(([status, response]) =>
      jsonHtml(`Answer ${status}`, response['content'] ?? response),
    )}
  </details>`;
}

function parametersHtml(parameters: OpenApiOperation['parameters']): Html {
  return html`<table>
    <tr>
      <th>parameter</th>
      <th>in</th>
      <th>required</th>
      <th>schema</th>
    </tr>
    ${parameters.map(
      ({ name, in: place, required, schema }) =>
        html`<tr>
          <td><code>${String(name)}</code></td>
          <td>${String(place)}</td>
          <td>${required === true ? 'yes' : 'no'}</td>
          <td><code>${JSON.stringify(schema)}</code></td>
        </tr>`,
    )}
  </table>`;
}

function jsonHtml(title: string, value: unknown): Html {
  return html`<h3>${title}</h3>
    <pre>${JSON.stringify(value, null, 2)}</pre>`;
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
nav a { margin-right: .75rem; }
details { border-top: 1px solid #8884; padding: .4rem 0; }
summary { cursor: pointer; }
summary b { display: inline-block; width: 4.5rem; }
pre, table { font-size: .85rem; overflow-x: auto; display: block; }
td, th { text-align: left; padding: .15rem .75rem .15rem 0; vertical-align: top; }
`;

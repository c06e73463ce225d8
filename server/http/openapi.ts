import { z } from 'zod';
import { problem } from '../../shared/protocol/problem.ts';
import type { Caller } from './caller.ts';
import type { Route } from './route.ts';

type JsonObject = Readonly<Record<string, unknown>>;

/** One operation of the document, as far as the reference page reads it too. */
export interface OpenApiOperation {
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly parameters: readonly JsonObject[];
  readonly requestBody?: JsonObject;
  readonly responses: Readonly<Record<string, JsonObject>>;
}

/** The parts of an OpenAPI 3.1 document that we write. */
export interface OpenApiDocument {
  readonly openapi: '3.1.0';
  readonly info: JsonObject;
  readonly servers: readonly JsonObject[];
  readonly security: readonly JsonObject[];
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenApiOperation>>>>;
  readonly components: JsonObject;
}

/** The OpenAPI 3.1 document of a table of routes, made of the very schemas that validate. */
export function buildOpenApi<C extends Caller>(
  routes: readonly Route<C>[],
  info: { readonly title: string; readonly version: string; readonly description: string },
): OpenApiDocument {
  const paths: Record<string, Record<string, OpenApiOperation>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    (paths[path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: '3.1.0',
    info: { ...info, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    servers: [{ url: '/' }],
    security: [{ clientCertificate: [] }],
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        clientCertificate: { type: 'mutualTLS', description: 'An X509-SVID of an operator.' },
      },
      schemas: { Problem: schemaOf(problem, 'output') },
      responses: {
        Problem: {
          description: 'The request was refused or failed; `code` says whether a retry can help.',
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
    },
  };
}

function operationOf<C extends Caller>(route: Route<C>): OpenApiOperation {
  const { status, description, mediaType } = route.answer;
  const content = mediaType === undefined ? {} : { content: { [mediaType]: answerSchema(route) } };
  return {
    operationId: `${route.action}.${route.method.toLowerCase()}`,
    summary: route.summary,
    description: route.isMutating
      ? `Action \`${route.action}\`: decided by policies/admin and recorded in the operators' log.`
      : `Action \`${route.action}\`: decided by policies/admin.`,
    tags: [route.tag],
    parameters: [...parametersOf(route.paramsSchema, 'path'), ...parametersOf(route.querySchema, 'query')],
    ...(route.body === undefined ? {} : { requestBody: requestBodyOf(route.body.media) }),
    responses: {
      [String(status)]: { description, ...content },
      default: { $ref: '#/components/responses/Problem' },
    },
  };
}

function answerSchema<C extends Caller>(route: Route<C>): JsonObject {
  return route.answer.schema === undefined ? {} : { schema: schemaOf(route.answer.schema, 'output') };
}

function requestBodyOf(media: Readonly<Record<string, z.ZodType | undefined>>): JsonObject {
  const content = Object.entries(media).map(([mediaType, schema]) => [
    mediaType,
    schema === undefined ? {} : { schema: schemaOf(schema, 'input') },
  ]);
  return { required: true, content: Object.fromEntries(content) as JsonObject };
}

function parametersOf(schema: z.ZodType | undefined, place: 'path' | 'query'): readonly JsonObject[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(schema, 'input') as {
    readonly properties?: Readonly<Record<string, unknown>>;
    readonly required?: readonly string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: property,
  }));
}

/** `unrepresentable: any`: a value that a transformation checks further is described by its text form. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): JsonObject {
  const { $schema: _dialect, ...described } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    override: ({ zodSchema, jsonSchema }) => describeTransformed(zodSchema, jsonSchema),
  });
  return described;
}

/** What stands on the wire for a branded value is a string on both sides. */
function describeTransformed(schema: z.core.$ZodType, described: { type?: unknown; anyOf?: unknown }): void {
  if (schema._zod.def.type === 'pipe' && described.type === undefined && described.anyOf === undefined)
    described.type = 'string';
}

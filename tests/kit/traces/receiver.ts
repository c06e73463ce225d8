/** Takes spans by OTLP over HTTP in JSON and appends each to a file, a line each. Usage: bun receiver.ts FILE PORT */
import { appendFileSync } from 'node:fs';
import { z } from 'zod';

/** ExportTraceServiceRequest as the OpenTelemetry protocol has it in JSON. */
const request = z.object({
  resourceSpans: z.array(z.object({ scopeSpans: z.array(z.object({ spans: z.array(z.unknown()) })) })),
});
const [file = '', port = ''] = process.argv.slice(2);

Bun.serve({
  hostname: '127.0.0.1',
  port: Number(port),
  fetch: async (asked) => {
    const isTraces = asked.method === 'POST' && new URL(asked.url).pathname === '/v1/traces';
    if (!isTraces) return new Response(null, { status: 404 });
    for (const { scopeSpans } of request.parse(await asked.json()).resourceSpans)
      for (const { spans } of scopeSpans)
        for (const span of spans) appendFileSync(file, `${JSON.stringify(span)}\n`);
    return Response.json({});
  },
});

import { afterEach, describe, expect, test } from 'bun:test';
import { PicketError } from '../errors/errors.ts';
import { startMetricsListener, startReadinessListener, type HttpListener } from './metrics-listener.ts';
import { addCounter, addGauge, createMetrics } from './metrics.ts';

const LOOPBACK = { host: '127.0.0.1', port: 0 };
const running: HttpListener[] = [];

afterEach(async () => {
  for (const listener of running.splice(0)) await listener.stop();
});

function started(listener: HttpListener): string {
  running.push(listener);
  return `http://127.0.0.1:${listener.port}`;
}

describe('createMetrics()', () => {
  test('createMetrics() tells version, memory, descriptors and a CPU time that grows', async () => {
    const startedAtMs = Date.parse('2026-01-01T00:00:00Z');
    const registry = createMetrics({ version: '1.2.3', role: 'agent', startedAtMs });
    const url = started(startMetricsListener(LOOPBACK, registry));
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get('content-type')).toStartWith('text/plain; version=0.0.4');
    const text = await answer.text();
    expect(text).toContain('picket_build_info{version="1.2.3",role="agent"} 1');
    expect(text).toContain(`process_start_time_seconds ${startedAtMs / 1000}`);
    const value = (name: string): number => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(1_000_000);
    expect(value('process_open_fds')).toBeGreaterThan(2);
    expect(value('process_max_fds')).toBeGreaterThan(value('process_open_fds'));
    expect(value('process_cpu_seconds_total')).toBeGreaterThan(0);
    const again = await (await fetch(`${url}/metrics`)).text();
    const cpu = Number(/^process_cpu_seconds_total (.*)$/m.exec(again)?.[1]);
    expect(cpu).toBeGreaterThanOrEqual(value('process_cpu_seconds_total'));
    expect(cpu).toBeLessThan(value('process_cpu_seconds_total') + 5);
  });
});

describe('addGauge() and addCounter()', () => {
  test('addGauge() tells what is read at the moment, by label, and nothing where nothing is told', async () => {
    const registry = createMetrics({ version: '1', role: 'server', startedAtMs: 0 });
    let values: Readonly<Record<string, number>> = { a: 1, b: 2 };
    addGauge(registry, {
      name: 'by_label',
      help: 'h',
      labels: ['x'],
      read: (tell) => {
        for (const [x, value] of Object.entries(values)) tell(value, { x });
      },
    });
    const single: { value?: number } = {};
    addGauge(registry, {
      name: 'single',
      help: 'h',
      read: (tell) => {
        if (single.value !== undefined) tell(single.value);
      },
    });
    const first = await registry.metrics();
    expect(first).toContain('by_label{x="a"} 1\nby_label{x="b"} 2');
    expect(first).not.toMatch(/^single /m);
    values = { b: 3 };
    single.value = 7;
    const second = await registry.metrics();
    expect(second).toContain('by_label{x="b"} 3');
    expect(second).not.toContain('x="a"');
    expect(second).toMatch(/^single 7$/m);
  });

  test('addCounter() tells the count of somebody else, not the sum of all reads', async () => {
    const registry = createMetrics({ version: '1', role: 'server', startedAtMs: 0 });
    addCounter(registry, { name: 'seen_total', help: 'h', read: (tell) => tell(5) });
    await registry.metrics();
    expect(await registry.metrics()).toMatch(/^seen_total 5$/m);
  });
});

describe('startMetricsListener()', () => {
  test('startMetricsListener() answers GET and HEAD of its path and nothing else', async () => {
    const registry = createMetrics({ version: '1', role: 'agent', startedAtMs: 0 });
    const url = started(startMetricsListener(LOOPBACK, registry));
    expect((await fetch(`${url}/metrics`, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(`${url}/metrics`, { method: 'POST' })).status).toBe(405);
    expect((await fetch(`${url}/`)).status).toBe(404);
    expect((await fetch(`${url}/constructor`)).status).toBe(404);
  });

  test('startMetricsListener() answers 500 when a figure cannot be had, and goes on', async () => {
    const registry = createMetrics({ version: '1', role: 'agent', startedAtMs: 0 });
    let isBroken = true;
    addGauge(registry, {
      name: 'a',
      help: 'a',
      read: () => {
        if (isBroken) throw new Error('broken figure');
      },
    });
    const url = started(startMetricsListener(LOOPBACK, registry));
    expect((await fetch(`${url}/metrics`)).status).toBe(500);
    isBroken = false;
    expect((await fetch(`${url}/metrics`)).status).toBe(200);
  });

  test('startMetricsListener() throws listen_failed where another listens', () => {
    const registry = createMetrics({ version: '1', role: 'agent', startedAtMs: 0 });
    const first = startMetricsListener(LOOPBACK, registry);
    running.push(first);
    let error: unknown;
    try {
      startMetricsListener({ ...LOOPBACK, port: first.port }, registry);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(PicketError);
    expect(error).toMatchObject({ code: 'unavailable', reason: 'listen_failed' });
  });
});

describe('startReadinessListener()', () => {
  test('startReadinessListener() says what is missing, while it is live', async () => {
    let missing: string | undefined = 'no identity yet';
    const url = started(startReadinessListener(LOOPBACK, { findMissing: () => missing }));
    const before = await fetch(`${url}/ready`);
    expect([before.status, await before.text()]).toEqual([503, 'not ready: no identity yet\n']);
    expect((await fetch(`${url}/live`)).status).toBe(200);
    missing = undefined;
    expect((await fetch(`${url}/ready`)).status).toBe(200);
  });
});

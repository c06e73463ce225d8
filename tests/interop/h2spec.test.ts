import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from '../kit/child.ts';
import { asUser, isListening } from '../kit/programs.ts';
import { TrafficMesh, type Service } from '../end-to-end/traffic/traffic-mesh.ts';
import { readJunit } from './junit.ts';
import { placeTool } from './place-tool.ts';

/** h2spec, the conformance suite of HTTP/2, through a pair of agents before nghttpd. */

setDefaultTimeout(300_000);

const PORT = 7420;
const USER = 7251;
/** docs/http2.md says why. */
const DIFFERENCES = [
  'generic/5: Sends a dynamic table size update',
  'generic/5: Sends multiple dynamic table size update',
  'http2/3.5: Sends invalid connection preface',
  'http2/6.9.2: Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame',
];

let traffic: TrafficMesh;
let folder: string;
let h2spec: string;

const nghttpd: Service = {
  path: '/files',
  selectors: [`unix:uid:${USER}`],
  listen: [`${PORT}/http`],
  async start(host, into) {
    const child = new Child({
      command: host.in(...asUser(USER, 'nghttpd', '--no-tls', '-d', folder, String(PORT))),
      logFile: join(into, 'nghttpd.log'),
      cwd: '/',
    });
    await child.ready('nghttpd listens', async () => await isListening(host, PORT));
    return child;
  },
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-h2spec-'));
  chmodSync(folder, 0o777);
  h2spec = placeTool('h2spec', folder);
  writeFileSync(join(folder, 'index.html'), 'hello\n');
  traffic = await TrafficMesh.open({
    services: [nghttpd],
    isOpen: async (open) => {
      const url = `http://${open.store.host.ipv4}:${PORT}/`;
      const { exitCode } = await open.asCaller(['curl', '-sf', '--http2-prior-knowledge', url]);
      return exitCode === 0;
    },
  });
}, 120_000);
afterAll(async () => {
  await traffic?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('h2spec through the pair', () => {
  test('passes but for the differences that are documented', async () => {
    const report = join(folder, 'report.xml');
    const target = ['-h', traffic.store.host.ipv4, '-p', String(PORT), '-P', '/'];
    const { stdout, stderr } = await traffic.asCaller(
      [h2spec, ...target, '--timeout', '10', '--junit-report', report],
      { withinMs: 280_000 },
    );
    const results = readJunit(readFileSync(report, 'utf8'));
    expect(results.length, `${stdout}${stderr}`.slice(-2000)).toBe(145);
    const failed = results.filter(({ outcome }) => outcome !== 'passed');
    expect(failed.map(({ name }) => name).sort()).toEqual(DIFFERENCES);
  });
});

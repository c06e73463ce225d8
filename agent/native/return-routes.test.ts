import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { join } from 'node:path';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { returnRoutesOf } from '../../tests/kit/transparent-shop.ts';

const PROGRAM = join(import.meta.dirname, 'fixtures/return-routes.ts');
let network: TestNetwork;
let host: TestHost;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = network.hosts[0]!;
});
beforeEach(async () => void (await does('remove')));
afterAll(async () => await network.remove());

async function does(...steps: readonly string[]): Promise<string> {
  return await host.runOk(process.execPath, PROGRAM, '20554', ...steps);
}

test('ReturnRoutes makes one rule and one route of each family, however often, and takes them away', async () => {
  expect(await does('look', 'install', 'install')).toBe('look absent\ninstall in_force\ninstall in_force\n');
  const made = await returnRoutesOf(host);
  expect(made.match(/100:\tfrom all fwmark 0x504a lookup 20554/g)).toHaveLength(2);
  expect(made.match(/local default dev lo table 20554/g)).toHaveLength(2);
  expect(await does('remove', 'remove')).toBe('remove absent\nremove absent\n');
  expect(await returnRoutesOf(host)).toBe('');
});

test('ReturnRoutes is not in force with half of it, and puts in the other half', async () => {
  await does('install');
  for (const command of [
    ['ip', 'rule', 'del', 'protocol', '80'],
    ['ip', '-6', 'rule', 'del', 'protocol', '80'],
    ['ip', 'route', 'flush', 'table', '20554'],
    ['ip', '-6', 'route', 'flush', 'table', '20554'],
    ['ip', 'rule', 'add', 'pref', '50', 'fwmark', '0x504a', 'prohibit'],
  ]) {
    await host.runOk(...command);
    expect(await does('look')).toBe('look absent\n');
    if (command.includes('50')) await host.runOk('ip', 'rule', 'del', 'pref', '50');
    expect(await does('install')).toBe('install in_force\n');
  }
});

test('ReturnRoutes does not take a route that leads nowhere in another table for one in its own', async () => {
  await host.runOk('ip', 'route', 'add', 'blackhole', 'default', 'table', '30000');
  await host.runOk('ip', 'rule', 'add', 'pref', '50', 'fwmark', '0x504a', 'lookup', '30000');
  expect(await does('install')).toBe('install absent\n');
  await host.runOk('ip', 'rule', 'del', 'pref', '50');
  await host.runOk('ip', 'route', 'flush', 'table', '30000');
  expect(await does('look')).toBe('look in_force\n');
});

test('ReturnRoutes takes away what another number made, and nothing of others', async () => {
  await host.runOk('ip', 'rule', 'add', 'fwmark', '7', 'lookup', '20554', 'pref', '60');
  await host.runOk(process.execPath, PROGRAM, '777', 'install');
  await does('install', 'remove');
  expect(await returnRoutesOf(host)).toBe('');
  expect(await host.runOk('ip', 'rule')).toContain('fwmark 0x7');
});

test('ReturnRoutes takes away what another number made as soon as it has its own', async () => {
  await host.runOk(process.execPath, PROGRAM, '777', 'install');
  await host.runOk('ip', 'route', 'add', '198.51.100.0/24', 'dev', 'eth0', 'table', '777');
  expect(await does('install')).toBe('install in_force\n');
  const left = await returnRoutesOf(host);
  expect(left.match(/lookup 20554/g)).toHaveLength(2);
  expect(left).not.toContain('777');
  // What somebody else has in that table stays.
  expect(await host.runOk('ip', 'route', 'show', 'table', '777')).toContain('198.51.100.0/24');
  await host.runOk('ip', 'route', 'flush', 'table', '777');
});

const FOREIGN = [
  ['default', 'dev', 'eth0'],
  ...['blackhole', 'unreachable', 'prohibit'].map((type) => [type, 'default']),
];

test.each(['-4', '-6'].flatMap((family) => FOREIGN.map((route) => ({ family, route: route.join(' ') }))))(
  'ReturnRoutes leaves somebody else’s route in its table alone, and says so ($family $route)',
  async ({ family, route }) => {
    await host.runOk('ip', family, 'route', 'add', ...route.split(' '), 'table', '20554');
    expect(await does('install')).toBe('install table_taken\n');
    await does('remove');
    expect(await host.runOk('ip', family, 'route', 'show', 'table', '20554')).toContain(route);
    await host.runOk('ip', family, 'route', 'flush', 'table', '20554');
    expect(await does('install')).toBe('install in_force\n');
  },
);

test('ReturnRoutes does without IPv6 where loopback has none', async () => {
  await host.runOk('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1');
  expect(await does('install')).toBe('install in_force\n');
  expect(await does('remove')).toBe('remove absent\n');
  await host.runOk('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=0');
});

import { expect, test } from 'bun:test';
import type { CaptureSettings } from './capture.ts';
import { SAMPLE_SETTINGS } from './contract.ts';
import { renderNftRules } from './nft-rules.ts';

test('renderNftRules() replaces its own table in one script and names no other', () => {
  const script = renderNftRules(SAMPLE_SETTINGS);
  expect(script).toStartWith('table inet picket\ndelete table inet picket\ntable inet picket {\n');
  expect(script.match(/^(table|delete|flush|add)/gm)).toEqual(['table', 'delete', 'table']);
});

test('renderNftRules() gives equal settings the same text, in whatever order they are written', () => {
  const { exclude } = SAMPLE_SETTINGS;
  const reordered = {
    ...SAMPLE_SETTINGS,
    localPorts: [5432, 80, 80],
    exclude: { ...exclude, users: exclude.users.toReversed() },
  };
  expect(renderNftRules(reordered)).toBe(renderNftRules(SAMPLE_SETTINGS));
});

test('renderNftRules() leaves an excluded inbound port alone on loopback too', () => {
  const script = renderNftRules({ ...SAMPLE_SETTINGS, localPorts: [22, 80] });
  expect(script).toContain('fib daddr type local tcp dport { 80 }');
});

test('renderNftRules() writes no rule for an empty list', () => {
  const exclude = { inboundPorts: [], outboundPorts: [], outboundAddresses: [], users: [] };
  const script = renderNftRules({ ...SAMPLE_SETTINGS, exclude, allowUdp: [], localPorts: [] });
  expect(script).not.toContain('{  }');
  expect(script).not.toMatch(/udp|skuid (\{|accept|return)|user_flows/);
});

test('renderNftRules() takes no connection that opens at the agent’s port for an answer of the agent', () => {
  const script = renderNftRules(SAMPLE_SETTINGS, 'programs');
  const accepts = script.split('\n').filter((rule) => /sport 15001\b.*accept/.test(rule));
  expect(accepts).toHaveLength(1);
  expect(accepts[0]).toContain('tcp flags & (fin | syn | rst | ack) != syn accept');
});

const BAD: Readonly<Record<string, Partial<CaptureSettings>>> = {
  'a mark of 0': { mark: 0 },
  'a mark of 33 bits': { mark: 2 ** 32 },
  'two equal ports of the agent': { ports: { outbound: 1, inbound: 1, mesh: 2 } },
  'port 0': { localPorts: [0] },
  'port 65536': { localPorts: [65_536] },
  'half a port': { localPorts: [80.5] },
  'a port of the agent among the excluded ones': {
    exclude: { ...SAMPLE_SETTINGS.exclude, inboundPorts: [15_008] },
  },
  'a negative user': { exclude: { ...SAMPLE_SETTINGS.exclude, users: [-1] } },
  'the user that means nobody at all': { exclude: { ...SAMPLE_SETTINGS.exclude, users: [0xffff_ffff] } },
  'an endless list': { localPorts: Array.from({ length: 1025 }, (_, i) => i + 1) },
};

for (const [what, change] of Object.entries(BAD))
  test(`renderNftRules() refuses ${what}`, () => {
    expect(() => renderNftRules({ ...SAMPLE_SETTINGS, ...change })).toThrow(
      expect.objectContaining({ code: 'invalid_argument', reason: 'capture_settings_invalid' }),
    );
  });

test('renderNftRules() refuses an address that would end its rule', () => {
  const outboundAddresses = ['10.0.0.0/8 } accept'];
  const exclude = { ...SAMPLE_SETTINGS.exclude, outboundAddresses };
  expect(() => renderNftRules({ ...SAMPLE_SETTINGS, exclude })).toThrow(
    expect.objectContaining({ reason: 'cidr_invalid' }),
  );
});

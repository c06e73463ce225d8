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

test('renderNftRules() steers what comes for another namespace to the agent, and forwards nothing but its allowed UDP', () => {
  const script = renderNftRules({ ...SAMPLE_SETTINGS, namespaceAddresses: ['10.8.0.2', 'fd08::2'] });
  const steering = script.slice(script.indexOf('chain steer_inbound'), script.indexOf('chain guard_local'));
  expect(
    steering.indexOf('ip daddr { 10.8.0.2/32 } fib daddr type != local tcp dport 15008 redirect to :15008'),
  ).toBeGreaterThan(0);
  expect(steering.indexOf('ip6 daddr { fd08::2/128 }')).toBeLessThan(
    steering.indexOf('\t\tfib daddr type != local return'),
  );
  const forward = script.slice(script.indexOf('chain guard_forward')).match(/^\t\t.*accept$/gm) ?? [];
  expect(forward.map((rule) => rule.trim())).toEqual([
    'ip saddr { 10.8.0.2/32 } ip daddr 192.0.2.53/32 udp dport 53 accept',
    'ip daddr { 10.8.0.2/32 } ip saddr 192.0.2.53/32 udp sport 53 ct direction reply accept',
  ]);
  expect(renderNftRules(SAMPLE_SETTINGS)).not.toMatch(/guard_forward[^}]*accept;?$/m);
});

test('renderNftRules() lets nobody into an enclosed namespace, and takes no user there for the agent', () => {
  const script = renderNftRules(SAMPLE_SETTINGS, 'enclosed');
  expect(script).not.toContain('steer_inbound');
  const input = script.slice(script.indexOf('chain guard_input'), script.indexOf('chain guard_forward'));
  expect(input).not.toMatch(/tcp .*accept/);
  expect(script).not.toContain('skuid 0 accept');
});

test('renderNftRules() brings back what answers to callers’ addresses where a listener asks for it, and nowhere else', () => {
  const { outbound, inbound, mesh } = SAMPLE_SETTINGS.ports;
  const transparentPorts = [5432, 22, outbound, inbound, mesh];
  const asking = { ...SAMPLE_SETTINGS, transparentId: 0x504a, transparentPorts };
  for (const steering of ['redirect', 'programs'] as const) {
    const script = renderNftRules(asking, steering);
    // An excluded port is not ours, and what answers from the agent's own goes to other hosts.
    expect(script).toContain('tcp sport { 5432 } fib daddr type != local ct zone set 20554');
    expect(script).toContain('ct zone 20554 oifname != "lo" counter drop');
    expect(script).toContain('ct zone 20554 snat ip to ip saddr');
    const input = script.slice(script.indexOf('chain guard_input'));
    expect(input.indexOf('tcp dport { 5432 } counter drop')).toBeLessThan(input.indexOf('socket mark'));
  }
  expect(renderNftRules(asking, 'enclosed')).not.toMatch(/20554|transparent/);
  expect(renderNftRules({ ...asking, transparentPorts: [] })).toBe(renderNftRules(SAMPLE_SETTINGS));
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
  'callers’ addresses without a mark': { transparentPorts: [80] },
  'one mark for both': { transparentPorts: [80], transparentId: SAMPLE_SETTINGS.mark },
  'a routing table of the kernel’s': { transparentPorts: [80], transparentId: 254 },
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

test('renderNftRules() asks about UDP only where it is decided, behind everything that passes or is refused without', () => {
  const decided = { ...SAMPLE_SETTINGS, decidesUdp: true };
  expect(renderNftRules(SAMPLE_SETTINGS)).not.toMatch(/log group|udp_flows|ask_udp/);
  for (const outbound of ['redirect', 'programs'] as const) {
    const script = renderNftRules(decided, outbound);
    const output = script.slice(script.indexOf('chain guard_output'), script.indexOf('chain ask_udp'));
    const rules = output.split('\n').map((line) => line.trim());
    const last = rules.slice(-6, -2);
    expect(last).toHaveLength(4);
    expect(last[0]).toEndWith('@udp_flows_ip accept');
    expect(last[1]).toEndWith('@udp_flows_ip6 accept');
    expect(last[2]).toMatch(
      /^meta l4proto udp fib daddr type unicast update @udp_asks .* meta mark set \d+ accept$/,
    );
    expect(last[3]).toBe('counter drop');
    const input = script.slice(script.indexOf('chain guard_input'), script.indexOf('chain guard_forward'));
    // Before loopback: what was asked about must not reach a program of this host.
    expect(input.indexOf('counter drop')).toBeLessThan(input.indexOf('iifname "lo" accept'));
    expect(input).not.toMatch(/ct state/);
  }
});

test('renderNftRules() forwards the UDP of other namespaces that the agent names with their interface, and leaves the rest to the rules within', () => {
  const decided = { ...SAMPLE_SETTINGS, allowUdp: [], decidesUdp: true };
  const forwarding = renderNftRules({ ...decided, namespaceAddresses: ['10.8.0.2'] });
  const forward = forwarding.slice(forwarding.indexOf('chain guard_forward')).match(/^\t\t.*accept$/gm) ?? [];
  expect(forward.map((rule) => rule.trim())).toEqual([
    'iif . ip saddr . udp sport . ip daddr . udp dport @udp_forwards_ip accept',
    'iif . ip6 saddr . udp sport . ip6 daddr . udp dport @udp_forwards_ip6 accept',
    'oif . ip daddr . udp dport . ip saddr . udp sport @udp_returns_ip accept',
    'oif . ip6 daddr . udp dport . ip6 saddr . udp sport @udp_returns_ip6 accept',
  ]);
  expect(renderNftRules(decided)).not.toMatch(/udp_forwards|udp_returns/);
  expect(renderNftRules({ ...SAMPLE_SETTINGS, namespaceAddresses: ['10.8.0.2'] })).not.toContain(
    'udp_forwards',
  );
  const enclosed = renderNftRules(decided, 'enclosed');
  expect(enclosed).not.toMatch(/udp_forwards|udp_returns/);
  const input = enclosed.slice(
    enclosed.indexOf('chain guard_input'),
    enclosed.indexOf('chain guard_forward'),
  );
  expect(input.indexOf('counter drop')).toBeLessThan(input.indexOf('iifname "lo" accept'));
  expect(input).toContain('@udp_answers_ip accept');
  expect(enclosed).toContain('chain ask_udp');
});

test('renderNftRules() lets everybody ask the resolvers, and hears their answers alone', () => {
  const script = renderNftRules({ ...SAMPLE_SETTINGS, resolvers: [{ address: '192.0.2.54', port: 53 }] });
  expect(script).toContain('ip daddr 192.0.2.54/32 tcp dport 53 return');
  expect(script).toContain('ip daddr 192.0.2.54/32 meta l4proto { tcp, udp } th dport 53 accept');
  expect(script).toContain('ip saddr 192.0.2.54/32 udp sport 53 ct direction reply accept');
  expect(script).not.toMatch(/forward[^}]*192\.0\.2\.54/);
});

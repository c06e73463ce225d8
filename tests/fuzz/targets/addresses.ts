import { formatCidr, parseCidr } from '../../../agent/capture/cidr.ts';
import { canonicalAddress, isHostAddress } from '../../../agent/directory/host-address.ts';
import { decodeIpAddress, encodeIpAddress } from '../../../shared/runtime/ip-address.ts';
import { parseNodeAddress } from '../../../server/agents/node-address.ts';
import { hostAndPort } from '../../../shared/config/config-values.ts';
import { parseDurationSeconds } from '../../../shared/config/duration.ts';
import { ipAddress } from '../../../shared/protocol/wire-values.ts';
import { attempt, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Addresses, networks and durations as people write them: one spelling, and what the server takes as a host's the agent takes too. */
export const target: FuzzTarget = {
  seeds: words(
    '10.0.0.5',
    'fd00::5',
    '::ffff:192.0.2.1',
    '10.0.0.0/8',
    'fd00::/8',
    '[::1]:8443',
    'host.example.org:80',
    '24h',
    'FD00:0:0:0:0:0:0:5',
    '1:2:3:4:5:6:7.8.9.10',
  ),
  dictionary: words(
    '::',
    ':',
    '.',
    '/',
    '%eth0',
    '0',
    '00',
    'ffff:',
    '127.0.0.1',
    '169.254.0.1',
    'fe80::',
    'ff02::1',
    '/33',
    '[',
    ']',
    '::ffff:0:0',
    '64:ff9b::',
    ' ',
    '\0',
    'd',
    '9999999999',
  ),
  maxBytes: 128,
  check(input) {
    const text = input.toString('latin1');
    const node = attempt(() => parseNodeAddress(text)).value;
    if (node !== undefined) requireHostForAgents(text, node);
    const cidr = attempt(() => parseCidr(text)).value;
    if (cidr !== undefined) requireSame(parseCidr(formatCidr(cidr)), cidr, 'a network parsed again');
    const seconds = attempt(() => parseDurationSeconds(text)).value;
    requireThat(seconds === undefined || Number.isSafeInteger(seconds), 'a duration that is no number');
    const server = hostAndPort.safeParse(text);
    requireThat(
      !server.success || (server.data.port > 0 && server.data.port < 65_536),
      'a port that is none',
    );
    const isOnWire = ipAddress.safeParse(text).success;
    if (isOnWire && canonicalAddress(text) !== undefined) requireRoundTrip(text);
    return `${node !== undefined} ${cidr?.family} ${seconds !== undefined} ${server.success} ${isOnWire}`;
  },
};

function requireHostForAgents(text: string, node: string): void {
  requireSame(parseNodeAddress(node), node, 'a node address parsed again');
  requireSame(canonicalAddress(text), node, 'the spelling of the agent');
  requireThat(isHostAddress(node), `agents refuse ${node}, which the server took`);
  requireThat(ipAddress.safeParse(node).success, `${node} cannot be told to agents`);
}

function requireRoundTrip(text: string): void {
  const canonical = decodeIpAddress(encodeIpAddress(text));
  requireSame(decodeIpAddress(encodeIpAddress(canonical)), canonical, 'an address read again');
}

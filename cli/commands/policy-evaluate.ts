import { Option, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { policyAnswer, type PolicyAnswer } from '../../shared/protocol/operator.ts';
import { wholeNumber } from '../duration-option.ts';
import { collect, withExamples } from '../example.ts';
import { fields } from '../output.ts';
import { openSession } from '../session.ts';

interface EvaluateOptions {
  readonly caller?: string;
  readonly targetId?: string;
  readonly domain?: string;
  readonly tls?: boolean;
  readonly protocol?: 'udp';
  readonly targetAddress?: string;
  readonly targetPort?: number;
  readonly direction: 'inbound' | 'outbound';
  readonly method?: string;
  readonly path?: string;
  readonly header?: readonly string[];
  readonly policyVersion?: number;
  readonly source?: string;
  readonly at?: string;
  readonly inNetwork?: readonly string[];
  readonly outsideNetwork?: readonly string[];
  readonly user?: string;
  readonly userIssuer?: string;
}

/** `picket policy evaluate`: asks the server what would be decided. */
export function registerPolicyEvaluate(policy: Command): void {
  withExamples(
    policy
      .command('evaluate')
      .description('what would be decided, by which rules; nothing is sent')
      .option('--caller <id>', 'SPIFFE ID of the caller; without it an unidentified one')
      .option(
        '--target-id <id>',
        'SPIFFE ID of the called workload; without it a destination outside of the mesh',
      )
      .option('--domain <name>', 'DNS name of a destination outside of the mesh')
      .option('--tls', 'the connection asks for --domain by TLS; nothing of it is read')
      .addOption(
        new Option('--protocol <protocol>', 'udp: a flow of datagrams out of the mesh').choices(['udp']),
      )
      .option('--target-address <address>', 'IP address of the destination')
      .option('--target-port <port>', 'port of the destination; default 443', wholeNumber)
      .addOption(
        new Option('--direction <direction>', 'whose rule: allow (inbound) or egress (outbound)')
          .choices(['inbound', 'outbound'])
          .default('inbound'),
      )
      .option('--method <method>', 'HTTP method; without it a plain connection')
      .option('--path <path>', 'HTTP path with query (default: /)')
      .option('--header <name:value>', 'HTTP header (repeatable)', collect)
      .option('--source <address>', 'IP address of the caller’s host')
      .option('--at <time>', 'when it would happen (RFC 3339); default now')
      .option('--in-network <name>', 'a named network that the caller is in (repeatable)', collect)
      .option('--outside-network <name>', 'a named network that it is not in (repeatable)', collect)
      .option(
        '--user <claims>',
        'claims of a verified user token, JSON: \'{"sub":"alice","groups":["ops"]}\'',
      )
      .option('--user-issuer <name>', 'configured name of its issuer')
      .option('--policy-version <n>', 'version to ask; default the one in force', wholeNumber)
      .action(evaluate),
    'picket policy evaluate --direction outbound --caller spiffe://example.org/ns/shop/sa/web --domain api.partner.example --tls',
    'picket policy evaluate --direction outbound --caller spiffe://example.org/ns/shop/sa/web --protocol udp --target-address 192.0.2.123 --target-port 123',
    'picket policy evaluate --caller spiffe://example.org/ns/shop/sa/web --target-id spiffe://example.org/ns/shop/sa/invoices --method GET --path /invoices',
  );
}

async function evaluate(options: EvaluateOptions, command: Command): Promise<void> {
  requireNothingIdle(options);
  const { client, output } = openSession(command);
  const answer = await client.post('/policies/evaluate', policyAnswer, questionOf(options));
  output.result(answer, renderAnswer);
}

/** JSON leaves out what is undefined. */
function questionOf(options: EvaluateOptions): object {
  const { direction, protocol, method, targetAddress, targetPort, at } = options;
  return {
    caller: options.caller ?? '',
    target: options.targetId ?? '',
    domain: options.domain ?? '',
    serverName: options.tls === true ? (options.domain ?? '') : undefined,
    direction,
    protocol,
    targetAddress,
    targetPort,
    method,
    path: options.path ?? '/',
    headers: Object.fromEntries((options.header ?? []).map(parseHeader)),
    sourceAddress: options.source,
    at,
    inNetworks: options.inNetwork,
    outsideNetworks: options.outsideNetwork,
    userClaims: options.user,
    userIssuer: options.userIssuer,
    version: options.policyVersion,
  };
}

/** What would be passed over is refused: the answer would be to another question. Throws `invalid_argument`, reason `option_idle`. */
function requireNothingIdle(options: EvaluateOptions): void {
  const { domain, tls, method, path, header, user, userIssuer } = options;
  const refuse = (option: string, needed: string): PicketError =>
    new PicketError('invalid_argument', 'option_idle', `${option} means nothing without ${needed}`);
  if (path !== undefined && method === undefined) throw refuse('--path', '--method');
  if (header !== undefined && method === undefined) throw refuse('--header', '--method');
  if (tls === true && domain === undefined) throw refuse('--tls', '--domain');
  if (userIssuer !== undefined && user === undefined) throw refuse('--user-issuer', '--user');
}

function renderAnswer(answer: PolicyAnswer): string {
  const head = fields([
    ['decision', answer.decision],
    ['reason', `${answer.reason}: ${answer.message}`],
    ['version', answer.version === null ? 'none in force' : String(answer.version)],
    ...(answer.via === undefined ? [] : [['via', answer.via] as const]),
    ...(answer.serverCertificate === undefined
      ? []
      : [['server must prove', renderCertificate(answer.serverCertificate)] as const]),
    ...(answer.inspect === undefined
      ? []
      : [['TLS', 'is inspected, each request within is decided'] as const]),
  ]);
  const rules = answer.rules.map((r) => `  ${r.rule} (${r.file}:${r.line})`);
  return rules.length === 0 ? `${head}\nno rule fired` : `${head}\nrules that fired:\n${rules.join('\n')}`;
}

function renderCertificate({
  spkiSha256 = [],
  authority,
}: NonNullable<PolicyAnswer['serverCertificate']>): string {
  const facts = [
    ...(spkiSha256.length === 0 ? [] : [`a key with SPKI SHA-256 ${spkiSha256.join(' or ')}`]),
    ...(authority === undefined ? [] : [`a certificate of the authority "${authority}"`]),
  ];
  return facts.join(', and ');
}

function parseHeader(text: string): readonly [string, string] {
  const colon = text.indexOf(':');
  if (colon < 1)
    throw new PicketError(
      'invalid_argument',
      'header_invalid',
      `Cannot read --header "${text}": expected NAME:VALUE`,
    );
  return [text.slice(0, colon).toLowerCase(), text.slice(colon + 1).trim()];
}

// First of all: in the bundled executable, @peculiar/x509 would otherwise be loaded before what it asks for.
import 'reflect-metadata';
import { Command, CommanderError, Option } from 'commander';
import { ERROR_CODES, describeError, type PicketError, toPicketError } from '../shared/errors/errors.ts';
import { registerAgent } from './commands/agent.ts';
import { registerAudit } from './commands/audit.ts';
import { registerCa } from './commands/ca.ts';
import { registerCompletion } from './commands/completion.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerEnforcement } from './commands/enforcement.ts';
import { registerEntry } from './commands/entry.ts';
import { registerNode } from './commands/node.ts';
import { registerOperator } from './commands/operator.ts';
import { registerPolicy } from './commands/policy.ts';
import { registerQuarantine } from './commands/quarantine.ts';
import { registerServer } from './commands/server.ts';
import { registerToken } from './commands/token.ts';
import { registerVersion } from './commands/version.ts';
import { registerWhy } from './commands/why.ts';
import { registerWorkload } from './commands/workload.ts';
import { addExamplesOfGroups } from './example.ts';
import { printable } from './output.ts';
import { DEFAULT_SERVER_SOCKET } from './session.ts';

const EXIT_USAGE = 2;

process.exitCode = await main(process.argv);

async function main(argv: readonly string[]): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, argv.includes('--json'));
  }
}

function buildProgram(): Command {
  const program = new Command('picket')
    .description('Zero-trust mesh: workload identities, mutual TLS and a policy decision for every request.')
    .addOption(new Option('--json', 'print results and errors as JSON'))
    .addOption(
      new Option(
        '--socket <path>',
        `unix socket of the server on this host (default ${DEFAULT_SERVER_SOCKET})`,
      ).env('PICKET_SOCKET'),
    )
    .addOption(
      new Option('--server <url>', "operators' address of a server, https://HOST:8444").env('PICKET_SERVER'),
    )
    .addOption(new Option('--cert <file>', 'client certificate (PEM) for --server').env('PICKET_CERT'))
    .addOption(new Option('--key <file>', 'private key (PEM) for --server').env('PICKET_KEY'))
    .addOption(new Option('--ca <file>', 'trust bundle (PEM) that verifies --server').env('PICKET_CA'))
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true });
  const registrations = [
    registerCa,
    registerServer,
    registerToken,
    registerNode,
    registerEntry,
    registerPolicy,
    registerWorkload,
    registerAudit,
    registerOperator,
    registerQuarantine,
    registerEnforcement,
    registerAgentHere,
    registerWhy,
    registerDoctorHere,
    registerCompletion,
    registerVersion,
  ];
  for (const register of registrations) register(program);
  addExamplesOfGroups(program);
  inheritSettings(program);
  return program;
}

/** A role is loaded when it is asked for. */
function registerAgentHere(program: Command): void {
  registerAgent(program, {
    startAgent: async (runtime) => await (await import('../agent/main.ts')).startAgent(runtime),
    openCapture: async ({ rulesFile, ...choice }) => {
      const { openCapture } = await import('../agent/capture/open-capture.ts');
      return openCapture({ ...choice, ...(await hostOfCapture()), nft: { rulesFile } }).capture;
    },
  });
}

async function hostOfCapture(): Promise<{
  readonly ownerUid: number;
  readonly ownAddresses: () => readonly string[];
}> {
  const { listOwnAddresses } = await import('../agent/directory/own-addresses.ts');
  return { ownerUid: process.geteuid?.() ?? 0, ownAddresses: listOwnAddresses };
}

function registerDoctorHere(program: Command): void {
  registerDoctor(program, async () => {
    const { probeCapture } = await import('../agent/capture/open-capture.ts');
    const { findTcpListeners } = await import('../agent/native/sock-diag.ts');
    const host = await hostOfCapture();
    return {
      probeCapture: (keeping) => probeCapture({ ...keeping, ...host }),
      diagnoseSockets: () => void findTcpListeners(1),
    };
  });
}

/** Sub-commands throw instead of ending the process, too. */
function inheritSettings(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inheritSettings(child);
  }
}

function report(error: unknown, isJson: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const picketError = toPicketError(error);
  const { code, reason, message, details } = picketError;
  if (isJson) process.stderr.write(`${JSON.stringify({ error: { code, reason, message, details } })}\n`);
  else process.stderr.write(`error: ${printable(message)}\n${detailLines(picketError)}`);
  if (process.env['PICKET_DEBUG'] !== undefined || reason === 'unexpected')
    process.stderr.write(`${describeError(picketError)}\n`);
  return ERROR_CODES[code].exitCode;
}

/** File, line and reason of a refused policy, one a line. */
function detailLines(error: PicketError): string {
  const faults = error.details?.['faults'];
  if (!Array.isArray(faults)) return '';
  const lines = (
    faults as readonly { readonly file?: string; readonly line?: number; readonly message?: string }[]
  ).map(
    ({ file, line, message }) =>
      `  ${[file, line].filter((part) => part !== undefined).join(':')}: ${printable(message ?? '')}\n`,
  );
  return lines.join('');
}

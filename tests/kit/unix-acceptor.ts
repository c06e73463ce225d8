import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { descriptorOf } from '../../shared/runtime/unix-socket.ts';

/** A program that connected, our end of its connection, and the descriptor of that end. */
export interface AcceptedProgram {
  readonly child: Bun.Subprocess;
  readonly socket: Socket;
  readonly fd: number;
}

/** Accepts the connections of real programs on a unix socket, for tests of who is on the other side. */
export class UnixAcceptor {
  readonly path: string;
  readonly #folder: string;
  readonly #server: Server;

  private constructor(folder: string, server: Server) {
    this.#folder = folder;
    this.#server = server;
    this.path = join(folder, 's.sock');
  }

  static async open(): Promise<UnixAcceptor> {
    const acceptor = new UnixAcceptor(mkdtempSync(join(tmpdir(), 'picket-peer-')), createServer());
    await new Promise<void>((resolve) => acceptor.#server.listen(acceptor.path, resolve));
    return acceptor;
  }

  /** Starts a program that connects to `path`, and waits until it has. */
  async acceptFrom(command: string[]): Promise<AcceptedProgram> {
    const accepted = new Promise<Socket>((resolve) => this.#server.once('connection', resolve));
    const child = Bun.spawn(command, { stdin: 'pipe', stdout: 'ignore', stderr: 'inherit' });
    const socket = await accepted;
    const fd = descriptorOf(socket);
    if (fd === undefined) throw new Error('the accepted socket has no descriptor');
    return { child, socket, fd };
  }

  close(): void {
    this.#server.close();
    rmSync(this.#folder, { recursive: true });
  }
}

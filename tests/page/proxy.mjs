// Proxies between the browser and the relay.

import { createServer, request } from "node:http";

/** How many events come out for each that goes in. */
const TIMES = 10;

/** Serves the relay below `/slipring/`, as a web server in front of it would. The relay sees the host that the browser asked for. */
export function behindPrefix(relay) {
  return serve(relay, (path) => (path.startsWith("/slipring/") ? path.slice("/slipring".length) : null), pass);
}

/** Serves the relay with ten times as many events, each with a time of its own and a mark. */
export function hurried(relay) {
  return serve(relay, (path) => path, (path, answer, response) => {
    if (path.startsWith("/api/v1/events")) multiply(answer, response);
    else pass(path, answer, response);
  });
}

async function serve(relay, map, forward) {
  const { hostname, port } = new URL(relay);
  const server = createServer((incoming, response) => {
    const path = map(incoming.url);
    if (path === null) {
      response.writeHead(404).end("not here\n");
      return;
    }
    const headers = { ...incoming.headers, "accept-encoding": "identity" };
    const outgoing = request({ hostname, port, path, method: incoming.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      forward(path, answer, response);
    });
    outgoing.on("error", () => response.destroy());
    response.on("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function pass(_path, answer, response) {
  answer.pipe(response);
}

function multiply(answer, response) {
  let rest = "";
  let marks = 0;
  const timers = new Set();
  const later = (milliseconds, act) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      act();
    }, milliseconds);
    timers.add(timer);
  };
  answer.setEncoding("utf8");
  answer.on("data", (text) => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.match(/^data: ?(.*)$/m)?.[1];
      if (!/^event: ?sample$/m.test(block) || data === undefined) {
        response.write(`${block}\n\n`);
        continue;
      }
      const event = JSON.parse(data);
      for (let copy = 0; copy < TIMES; copy += 1) {
        const time = event.time + copy / TIMES;
        later((1000 * copy) / TIMES, () => {
          marks += 1;
          const mark = { id: 1e9 + marks, time, kind: "swap", module: event.status.modules[0].name, text: `mark ${marks}` };
          const sample = { ...event, time, marks: [...(copy === 0 ? event.marks : []), mark] };
          response.write(`event: sample\ndata: ${JSON.stringify(sample)}\n\n`);
        });
      }
    }
  });
  answer.on("end", () => response.end());
  response.on("close", () => timers.forEach(clearTimeout));
}

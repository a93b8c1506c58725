# frozen_string_literal: true

require 'spec_helper'
require_relative '../../lib/puppet_x/distlock/command' unless defined?(PuppetX::Distlock::Command)

# Real processes: small scripts in the place of distlock.
describe PuppetX::Distlock::Command do
  let(:folder) { Dir.mktmpdir }
  let(:refused) { PuppetX::Distlock::Refused }

  around(:each) do |example|
    before = ENV.fetch('PATH')
    ENV['PATH'] = "#{folder}:#{before}"
    example.run
    ENV['PATH'] = before
    FileUtils.rm_rf(folder)
  end

  def script(text)
    path = File.join(folder, 'program')
    File.write(path, "#!/bin/sh\n#{text}\n", perm: 0o755)
  end

  it 'hands words on as they are: no shell reads them' do
    script('printf \'{"words": "%s|%s"}\' "$1" "$2"')
    expect(described_class.ask('program', ['$(id); `id`', 'a  b'])).to eq('words' => '$(id); `id`|a  b')
  end

  it 'sends the request as one line' do
    script('read -r line; [ "$line" = \'{"a":"b"}\' ] && echo \'{"ok": true}\'')
    expect(described_class.ask('program', [], request: { a: 'b' })).to eq('ok' => true)
  end

  it 'raises what was refused, as one line' do
    script('printf %s \'{"error": {"kind": "busy", "message": "held\nby x"}}\'; exit 1')
    expect { described_class.ask('program', []) }.to raise_error(refused, 'held\nby x') { |e| expect(e.kind).to eq('busy') }
  end

  it 'escapes what would play with a terminal, in all that comes out of etcd' do
    script('printf %s \'{"locks": [{"owner": "a\\u001b[2J\\u009b\\u202eä", "token": 7}]}\'')
    expect(described_class.ask('program', [])['locks']).to eq([{ 'owner' => 'a\\e[2J\\u009B\\u202Eä', 'token' => 7 }])
  end

  it 'tells the last line of one that gives no answer' do
    script('echo one >&2; echo Oops >&2; exit 1')
    expect { described_class.ask('program', []) }.to raise_error(refused, %r{an unreadable answer; its last line on stderr: Oops\z})
  end

  it 'says what is not installed' do
    expect { described_class.ask('no-such-program', []) }.to raise_error(refused, %r{no-such-program is not installed})
  end

  it 'ends what takes too long, also when that does not want to end' do
    script("trap '' TERM; echo $$ > #{folder}/pid; while :; do sleep 0.05; done")
    began = described_class.now
    expect { described_class.ask('program', [], bound: 0.5) }.to raise_error(refused, 'no answer within 0.5 s')
    expect(described_class.now - began).to be < 10
    expect { Process.kill(0, File.read("#{folder}/pid").to_i) }.to raise_error(Errno::ESRCH)
  end

  it 'ends it when Puppet is to stop' do
    script("echo $$ > #{folder}/pid; exec sleep 60")
    allow(Puppet::Application).to receive(:stop_requested?) { File.exist?("#{folder}/pid") }
    expect { described_class.ask('program', []) }.to raise_error(refused)
    expect { Process.kill(0, File.read("#{folder}/pid").to_i) }.to raise_error(Errno::ESRCH)
  end
end

# frozen_string_literal: true

# Loads what the system has of Ruby in the form into which an earlier run has compiled it, as Python does with its .pyc:
# a third of what a run of Puppet costs. What is not below /usr, such as the module under test, is read as ever.
module Compiled
  FOLDER = ENV['COMPILED_RUBY'].to_s

  def load_iseq(path)
    return nil unless path.start_with?('/usr/')

    kept = File.join(FOLDER, path.tr('/', '%'))
    begin
      return RubyVM::InstructionSequence.load_from_binary(File.binread(kept))
    rescue Errno::ENOENT
      nil # not yet
    end
    compiled = RubyVM::InstructionSequence.compile_file(path)
    partial = "#{kept}.#{Process.pid}"
    File.binwrite(partial, compiled.to_binary)
    File.rename(partial, kept)
    compiled
  rescue StandardError, SyntaxError
    nil # Ruby does it by itself, and says what is wrong
  end
end

if defined?(RubyVM::InstructionSequence) && File.directory?(Compiled::FOLDER)
  RubyVM::InstructionSequence.singleton_class.prepend(Compiled)
end

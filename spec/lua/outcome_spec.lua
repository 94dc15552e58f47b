local outcome = require "moonpost.outcome"

describe("moonpost.outcome", function()
  local one = { address = "bob@example.org" }

  local function of(kind, result)
    local row = outcome.delivered(one, kind, result)
    assert.equal("bob@example.org", row.address)
    return { row.ok, row.code, row.enhanced }
  end

  it("knows success", function()
    local row = outcome.delivered(one, "maildir", { ok = true, path = "/m/new/1" })
    assert.same({ true, 250, "2.0.0", "maildir", "/m/new/1" }, { row.ok, row.code, row.enhanced, row.disposition,
      row.path })
  end)

  it("answers 452 4.3.1 when a disk is full", function()
    assert.same({ false, 452, "4.3.1" }, of("maildir", { ok = false, error = "NOSPACE" }))
    assert.same({ false, 452, "4.3.1" }, of("file", { ok = false, error = "NOSPACE" }))
  end)

  it("answers 451 4.3.0 to every other fault of ours, and tells the peer nothing of it", function()
    for _, kind in ipairs { "maildir", "file", "pipe" } do
      for _, name in ipairs { "NOTFOUND", "DENIED", "SYSTEM", "EXISTS", "TIMEOUT", "CANCELLED", "NOMEM" } do
        local row = outcome.delivered(one, kind, { ok = false, error = name, why = "/secret/path: no", status = 0 })
        assert.same({ false, 451, "4.3.0" }, { row.ok, row.code, row.enhanced })
        assert.is_nil(row.text:find("secret", 1, true))
        assert.equal("/secret/path: no", row.why)
      end
    end
  end)

  -- sysexits(3)
  for status, want in pairs {
    [65] = { 554, "5.6.0" }, [66] = { 554, "5.3.0" }, [67] = { 550, "5.1.1" }, [68] = { 550, "5.1.2" }, [69] = { 554,
      "5.3.0" },
    [76] = { 554, "5.5.0" }, [77] = { 550, "5.7.1" },
    [1] = { 451, "4.3.0" }, [2] = { 451, "4.3.0" }, [64] = { 451, "4.3.0" }, [70] = { 451, "4.3.0" }, [71] = { 451,
      "4.3.0" },
    [72] = { 451, "4.3.0" }, [73] = { 451, "4.3.0" }, [74] = { 451, "4.3.0" }, [75] = { 451, "4.3.0" }, [78] = { 451,
      "4.3.0" },
    [126] = { 451, "4.3.0" }, [127] = { 451, "4.3.0" }, [255] = { 451, "4.3.0" },
  } do
    it(("answers %d to a program's exit status %d"):format(want[1], status), function()
      assert.same({ false, want[1], want[2] }, of("pipe", { ok = false, error = "SYSTEM", status = status }))
    end)
  end

  it("takes no exit status for an answer when a signal ended the program", function()
    assert.same({ false, 451, "4.3.0" }, of("pipe", { ok = false, error = "SYSTEM", status = 67, signal = 11 }))
    assert.same({ false, 451, "4.3.0" }, of("pipe", { ok = false, error = "TIMEOUT", status = 67 }))
  end)

  it("blames the address for a path it may not be part of, and the policy for an empty name", function()
    assert.equal(550, outcome.unplaced(one, "maildir", "refused", "why").code)
    assert.equal(451, outcome.unplaced(one, "maildir", "empty", "why").code)
  end)

  describe("combine", function()
    local good = { ok = true, code = 250 }
    local later = { ok = false, code = 451 }
    local full = { ok = false, code = 452 }
    local no = { ok = false, code = 550 }
    local never = { ok = false, code = 554 }

    it("is success only when everybody was served", function()
      assert.equal(good, outcome.combine { good, { ok = true, code = 250 } })
      assert.is_nil(outcome.combine { good, later })
      assert.is_nil(outcome.combine { no, good })
    end)

    it("is the first refusal when all are of one class", function()
      assert.equal(no, outcome.combine { no, never })
      assert.equal(full, outcome.combine { full, later })
    end)

    it("is the temporary one when nobody was served", function()
      assert.equal(later, outcome.combine { no, later, never })
    end)
  end)
end)

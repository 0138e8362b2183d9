"""The words for parts of the day that stand beside a time, in many languages: `9:02 a. m.`, `下午9:02`, `ÖÖ 9:02`."""

from lorasum.data.chats.whatsapp.words import table

AM_PM = table(
    """
    да паўдня | пасля паўдня | да полудня | ам | пм | то | тк | тң | sf | ym | safiya | yamma | n’ụtụtụ
    n’abalị | gh | gd | صبح، منجهند | شام، منجهند | go.öň | go.soň | am vormittag | am namittag | vorm
    nam. | прије подне | ቅ.ቀ. | ድ.ቀ. | چ.ب | چ.ك | פֿאַרמיטאָג | נאָכמיטאָג | ب.ن | د.ن | bn | pn | moies | nomëttes | isuk
    wengi | по подне | поподне | приjeподне | преподне | am | pm | a.m. | p.m. | a.m | p.m | a. | p. | a | p
    in the morning | in the afternoon | in the evening | at night | noon | midnight | vorm. | nachm.
    vm. | nm. | v | n | m. | f.h. | e.h. | f. | e. | fm | em | fm. | em. | förmiddag | eftermiddag
    f.m. | e.m. | ap. | ip. | ap | ip | dop. | odp. | pop. | d | dopoldne | popoldne | prijepodne
    popodne | prije podne | po podne | претпл. | попл. | пре подне | по подне | пр.об. | сл.об.
    пр. об. | сл. об. | дп | пп | д.п. | п.п. | до полудня | после полудня | утра | дня | вечера | ночи
    de. | du. | de | du | π.μ. | μ.μ. | πμ | μμ | öö | ös | to | tk | ص | م | صباحًا | مساءً | صباحا
    مساء | ق.ظ. | ب.ظ. | ق.ظ | ب.ظ | قبل‌ازظهر | بعدازظهر | قبل از ظهر | بعد از ظهر | ق | ب | ق‌ظ | ب‌ظ
    قبل دوپہر | بعد دوپہر | לפנה״צ | אחה״צ | לפנה"צ | אחה"צ | לפנה״ | צ | אחה״ | לפני הצהריים
    אחרי הצהריים | पूर्वाह्न | अपराह्न | पूर्वा | अप | म.पू. | म.उ. | પૂર્વ | મધ્યાહ્ન | ਪੂ.ਦੁ. | ਬਾ.ਦੁ. | ਸ. | ਸ਼.
    পূর্বাহ্ণ | অপরাহ্ণ | முற்பகல் | பிற்பகல் | ఉ | సా | ಪೂರ್ವಾಹ್ನ | ಅಪರಾಹ್ನ | ก่อนเที่ยง | หลังเที่ยง | sa | ch | s | c
    sáng | chiều | pg | ptg | pagi | petang | siang | sore | malam | 午前 | 午後 | 오전 | 오후 | 上午
    下午 | 午夜 | 早上 | 中午 | 晚上 | 凌晨 | 清晨 | 傍晚 | 深夜 | priekšp. | pēcp. | priekšpusdienā
    pēcpusdienā | pēcpusd. | priešpiet | popiet | pr.p. | p.d. | m.d. | e paradites | e pasdites
    paradite | pasdite | g | r.n. | i.n. | yb | yh | ա | հ | կա | կհ | ү.ө. | ү.х. | နံနက် | ညနေ | ព្រឹក
    ល្ងាច | ກ່ອນທ່ຽງ | ຫຼັງທ່ຽງ | පෙ.ව. | ප.ව. | ጥዋት | ከሰዓት | ጠ | ከ | asubuhi | alasiri | mchana | usiku
    غ.م | غ.و. | matí | tarda | asteartea | de la mañana | de la tarde | da manhã | da tarde | du matin
    de l'après-midi
    পূৰ্বাহ্ন | অপৰাহ্ন | апоўначы | апоўдні | भोर | सांझ | སྔ་དྲོ་ | ཕྱི་དྲོ་ | g.m. | फुं | बेलासे
    सवेर | स’ञ | दपैहर बाद | صبح | ت د | ت ك | اے ایم | پی ایم | ये एम | पी एम | таңкы | түштөн кийинки
    ᠦ᠂ ᠥ | ᠦ᠂ ᠬᠣ | নুমাং | এ এম | পি এম | wd | wb | ع.م | ᱥᱮᱛᱟᱜ | ᱧᱤᱫᱟᱹ | شام | منجهند، شام | सुबुह जा
    शाम जा | hoseng | thapama | günortadan öň | günortadan soň | چۈشتىن بۇرۇن | چۈشتىن كېيىن | àárọ̀
    ọ̀sán | àárɔ̀ | ɔ̀sán | 上晝 | 下晝 | 上昼 | 下昼
    """
)
"""Forms of a.m. and p.m., before or after the time. Blanks and dots inside one (`a. m.`) do not matter."""

OTHERS = table(
    """
    middernag | die oggend | die middag | die aand | die nag | እኩለ ሌሊት | ቀትር | በምሽት | በሌሊት | فجرًا
    ظهرًا | بعد الظهر | في المساء | ليلاً | في الصباح | gecəyarı | günorta | sübh | səhər | gündüz
    axşamüstü | axşam | gecə | ҝеҹәјары | ҝүнорта | сүбһ | сәһәр | ҝүндүз | ахшамүстү | ахшам | ҝеҹә
    полунощ | сутринта | на обяд | следобед | вечерта | през нощта | ভোর | সকাল | দুপুর | বিকাল
    সন্ধ্যা | রাত্রি | ভোরবেলায় | সকালবেলায় | দুপুরবেলায় | সন্ধ্যাবেলায় | রাত্রিবেলায় | ponoć
    podne | ujutro | poslijepodne | navečer | po noći | поноћ | подне | ујутру | у подне | увече | ноћу
    послије подне | mitjanit | matinada | migdia | vespre | nit | vesprada | půln. | pol. | r. | več. | v n.
    půlnoc | poledne | ráno | dopoledne | odpoledne | večer | v noci | canol nos | canol dydd | y bore
    y prynhawn | yr hwyr | midnat | om morgenen | om formiddagen | om eftermiddagen | om aftenen
    om natten | mitternacht | morgens | mittags | abends | nachts | vormittags | nachmittags | πρωί
    μεσημ. | απόγ. | βράδυ | το πρωί | το μεσημέρι | το απόγευμα | το βράδυ | midday | del mediodía
    de la madrugada | de la noche | mediodía | madrugada | mañana | tarde | noche | keskööl | keskpäeval
    hommikul | pärastlõunal | õhtul | öösel | gauerdia | goizald. | goizeko | eguerd. | arrats.
    iluntz. | gaueko | goizaldeko | eguerdiko | arratsaldeko | iluntzeko | بامداد | ظهر | عصر | شب
    نیمه‌شب | بعدازچاشت | keskiyöllä | keskip. | aamulla | aamup. | iltap. | illalla | yöllä
    keskipäivällä | aamupäivällä | iltapäivällä | hatinggabi | tanghaling-tapat | ng umaga
    madaling-araw | ng hapon | ng gabi | minuit | midi | matin | après-midi | soir | de l’après-midi
    du soir | du mat. | de l’ap.m. | mat. | de la nuit | ap.m. | da noite | da madrugada | da mañá
    do mediodía | મધ્યરાત્રિ | સવારે | બપોરે | સાંજે | રાત્રે | חצות | בוקר | צהריים | אחר הצהריים | ערב
    לילה | לפנות בוקר | בבוקר | בצהריים | בערב | בלילה | मध्यरात्रि | सुबह | दोपहर | शाम | रात | subah
    dopahar | shaam | raat | aadhi raat | madhyanh | noću | éjfél | dél | reggel | este | éjjel | hajnal
    délelőtt | délután | կեսգիշեր | կեսօր | առավոտյան | ցերեկը | երեկոյան | գիշերը | կեսգիշերին
    կեսօրին | ցերեկվա | գիշերվա | tengah malam | tengah hari | miðnætti | hádegi | að morgni | síðdegis
    að kvöldi | að nóttu | mezzanotte | mezzogiorno | di mattina | di pomeriggio | di sera | di notte
    del pomeriggio | 真夜中 | 正午 | 朝 | 昼 | 夕方 | 夜 | 夜中 | შუაღამეს | შუადღ. | დილ. | ნაშუადღ. | საღ. | ღამ.
    შუადღეს | დილით | ნაშუადღევს | საღამოს | ღამით | түн жарымы | түскі | таңғы | түстен кейінгі | кешкі
    түнгі | ءتۇن جارىمى | تۇسكى | تاڭعى | تۇستەن كەيىنگى | كەش | تۇنگى | كەشى | អធ្រាត្រ | ថ្ងៃត្រង់
    នៅពេលព្រឹក | នៅពេលរសៀល | នៅពេលល្ងាច | នៅពេលយប់ | ಮಧ್ಯ ರಾತ್ರಿ | ಬೆಳಗ್ಗೆ | ಮಧ್ಯಾಹ್ನ | ಸಂಜೆ | ರಾತ್ರಿ
    자정 | 정오 | 아침 | 저녁 | 밤 | मध्यान | सकाळ | दनपार | सांज | मध्यानरात | सकाळीं | सांजे | दनपारां | राती
    modhyan | sokall | donpar | sanj | rat | modhyanrat | sokallim | sanje | donparam | rati
    түн ортосу | чак түш | эртең менен | түштөн кийин | кечинде | түн ичинде | ທ່ຽງຄືນ | ຕອນທ່ຽງ
    ຕອນເຊົ້າ | ຕອນບ່າຍ | ຕອນແລງ | ກາງຄືນ | ຕອນກາງຄືນ | vidurnaktis | perpiet | rytas | popietė | vakaras
    naktis | pusnaktī | pusd. | no rīta | vakarā | naktī | pusdienlaikā | полноќ | напладне | наутро
    претпладне | попладне | навечер | ноќе | അർദ്ധരാത്രി | ഉച്ച | പുലർച്ചെ | രാവിലെ | ഉച്ചയ്ക്ക്
    ഉച്ചതിരിഞ്ഞ് | വൈകുന്നേരം | സന്ധ്യ | രാത്രി | шөнө дунд | үд дунд | өглөө | өдөр | орой | шөнө
    मध्यरात्र | मध्यान्ह | पहाट | दुपार | संध्याकाळ | रात्र | သန်းခေါင်ယံ | မွန်းတည့် | နေ့လယ် | ည
    midn. | morg. | etterm. | kveld | natt | midnatt | på morgenen | på formiddagen | på ettermiddagen
    på kvelden | på natten | मध्यरात | बिहान | अपरान्ह | साँझ | बेलुकी | middernacht | ’s ochtends
    ’s middags | ’s avonds | ’s nachts | på morgonen | på natta | ਅੱਧੀ ਰਾਤ | ਸਵੇਰੇ | ਦੁਪਹਿਰੇ | ਸ਼ਾਮੀਂ
    ਰਾਤੀਂ | o północy | w południe | rano | przed południem | po południu | wieczorem | w nocy
    meia-noite | meio-dia | miezul nopții | amiază | dimineața | după-amiaza | seara | noaptea
    la miezul nopții | la amiază | полн. | полд. | полночь | полдень | මැදියම | මධ්‍යාහ්නය | පාන්දර
    උදේ | දවල් | හවස | රෑ | මැදියමට පසු | o poln. | napol. | dopol. | popol. | o polnoci | napoludnie
    dopoludnia | popoludní | opold. | zjut. | zveč. | ponoči | opolnoči | opoldne | zjutraj | dopoldan
    popoldan | zvečer | e mesnatës | e mesditës | e mëngjesit | e mbrëmjes | e natës | јутро | по под.
    вече | ujutru | uveče | jutro | po pod. | veče | på morg. | på förm. | på efterm. | på kvällen
    på förmiddagen | på eftermiddagen | saa sita za usiku | adhuhuri | alfajiri | jioni
    saa sita za mchana | நள்ளிரவு | நண்பகல் | அதிகாலை | காலை | மதியம் | மாலை | அந்தி மாலை | இரவு
    అర్ధరాత్రి | ఉదయం | మధ్యాహ్నం | సాయంత్రం | రాత్రి | เที่ยงคืน | เที่ยง | ในตอนเช้า | ในตอนบ่าย
    บ่าย | ในตอนเย็น | ค่ำ | กลางคืน | gece yarısı | öğle | sabah | öğleden önce | öğleden sonra
    akşamüstü | akşam | gece | ночі | ранку | вечора | آدھی رات | دوپہر | سہ پہر | رات | صبح میں
    دوپہر میں | شام میں | رات میں | yarim tun | tush payti | ertalab | kunduzi | kechqurun | kechasi
    ярим тун | туш пайти | эрталаб | кундузи | кечқурун | кечаси | nửa đêm | tối | đêm | trưa | 朝早 | 夜晚
    entathakusa | ekuseni | emini | ntambama | ebusuku | tr | 半夜 | 早晨 | 夜间 | 夜間
    """
)
"""Parts of a day that has more than two of them, as in some languages of Android: `1:40 de la madrugada`."""
